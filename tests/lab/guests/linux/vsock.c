/* The Linux guest's end of a conversation by vsock: takes one connection on port 1024, prints what the host says, and
 * answers. busybox has no vsock. */
#include <stdio.h>
#include <sys/socket.h>
#include <linux/vm_sockets.h>
#include <unistd.h>

static int fail(const char *what) {
    perror(what);
    return 1;
}

int main(void) {
    static const char answer[] = "from the guest\n";
    struct sockaddr_vm any = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = 1024 };
    int listener = socket(AF_VSOCK, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&any, sizeof any) || listen(listener, 1))
        return fail("LINUX CANNOT LISTEN BY VSOCK");
    puts("LINUX LISTENS BY VSOCK");
    fflush(stdout);
    int host = accept(listener, NULL, NULL);
    if (host < 0)
        return fail("LINUX CANNOT ACCEPT");
    char said[64];
    ssize_t length = read(host, said, sizeof said);
    if (length < 0)
        return fail("LINUX CANNOT READ");
    printf("LINUX HEARD %.*s", (int)length, said);
    fflush(stdout);
    if (write(host, answer, sizeof answer - 1) < 0)
        return fail("LINUX CANNOT ANSWER");
    return 0;
}
