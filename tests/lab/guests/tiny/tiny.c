/*
 * The tiny guest: the least that shows a machine to work.
 *
 * It lists the PCI bus on COM1, paints on the first GPU that it finds, and then waits for the power button or for a
 * letter on COM1:  q quit,  r reset,  c crash (triple fault),  h hang (stop listening),  d paint darker.
 * The word "stubborn" on its command line makes it ignore the power button.
 *
 * Where the numbers come from: Multiboot specification 0.6.96; PCI Local Bus 3.0 section 3.2.2.3.2 (ports cf8, cfc);
 * QEMU docs/specs/standard-vga.rst (BAR 0 memory, BAR 2 with VGA ports at 400h and the bochs interface at 500h);
 * ACPI 6.4 section 4.8.3 (fixed registers), found at 600h where QEMU's q35 firmware puts them.
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

enum { COM1 = 0x3f8, PM_EVENT = 0x600, PM_CONTROL = 0x604, RESET_CONTROL = 0xcf9 };
enum { POWER_BUTTON = 1 << 8, SLEEP_ENABLE = 1 << 13 };
enum { WIDTH = 640, HEIGHT = 480 };

struct loader_info {
	u32 flags, memory_low, memory_high, boot_device, command_line;
};

static void out8(u16 port, u8 value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }
static void out16(u16 port, u16 value) { __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port)); }
static void out32(u16 port, u32 value) { __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port)); }

static u8 in8(u16 port)
{
	u8 value;
	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static u16 in16(u16 port)
{
	u16 value;
	__asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static u32 in32(u16 port)
{
	u32 value;
	__asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static void say(const char *text)
{
	for (; *text; text++) {
		while (!(in8(COM1 + 5) & 0x20))
			;
		out8(COM1, (u8)*text);
	}
}

static void say_hex(u32 value, int digits)
{
	char text[] = { 0, 0 };

	while (digits--) {
		text[0] = "0123456789abcdef"[(value >> (4 * digits)) & 15];
		say(text);
	}
}

/* A place on the PCI bus, as port cf8 takes it. */
static u32 place(u32 bus, u32 slot, u32 function) { return 1u << 31 | bus << 16 | slot << 11 | function << 8; }

static u32 config(u32 where, u32 offset)
{
	out32(0xcf8, where | offset);
	return in32(0xcfc);
}

static void set_config(u32 where, u32 offset, u32 value)
{
	out32(0xcf8, where | offset);
	out32(0xcfc, value);
}

/* QEMU's standard VGA, and its virtio-vga, which has the same two windows. */
static int is_gpu(u32 id) { return id == 0x11111234 || id == 0x10501af4; }

static u32 walk(u32 bus, u32 gpu);

/* Tells of a function; gives the first GPU so far. Behind a bridge there is another bus. */
static u32 tell(u32 bus, u32 slot, u32 function, u32 id, u32 gpu)
{
	u32 where = place(bus, slot, function);
	u32 class = config(where, 8) >> 16;

	say("PCI ");
	say_hex(bus, 2);
	say(":");
	say_hex(slot, 2);
	say(".");
	say_hex(function, 1);
	say(" ");
	say_hex(id & 0xffff, 4);
	say(":");
	say_hex(id >> 16, 4);
	say(" class ");
	say_hex(class, 4);
	say("\n");
	if (class == 0x0604)
		return walk(config(where, 0x18) >> 8 & 0xff, gpu);
	return !gpu && is_gpu(id) ? where : gpu;
}

static u32 walk(u32 bus, u32 gpu)
{
	for (u32 slot = 0; slot < 32; slot++) {
		u32 functions = 1;

		for (u32 function = 0; function < functions; function++) {
			u32 id = config(place(bus, slot, function), 0);

			if (id == 0xffffffff)
				continue;
			if (function == 0 && config(place(bus, slot, 0), 0x0c) & 0x800000)
				functions = 8;
			gpu = tell(bus, slot, function, id, gpu);
		}
	}
	return gpu;
}

/* A picture that no console shows by chance: four quarters, green first, and a white cross between them. */
static u32 colour(int x, int y)
{
	if ((x > WIDTH / 2 - 8 && x < WIDTH / 2 + 8) || (y > HEIGHT / 2 - 8 && y < HEIGHT / 2 + 8))
		return 0xffffff;
	if (y < HEIGHT / 2)
		return x < WIDTH / 2 ? 0x00c040 : 0xf08000;
	return x < WIDTH / 2 ? 0x4060f0 : 0xc000c0;
}

static void paint(u32 gpu, u32 mask)
{
	volatile u32 *pixels = (volatile u32 *)(config(gpu, 0x10) & ~15u);
	u32 window = config(gpu, 0x18) & ~15u;
	volatile u8 *ports = (volatile u8 *)(window + 0x400);
	volatile u16 *mode = (volatile u16 *)(window + 0x500);

	set_config(gpu, 4, config(gpu, 4) | 7); /* answer on ports and memory, and be a bus master */
	(void)ports[0x1a];                      /* input status (3da): the next write to 3c0 is an index */
	ports[0] = 0x20;                        /* attribute controller (3c0): show the picture */
	mode[4] = 0;
	mode[1] = WIDTH;
	mode[2] = HEIGHT;
	mode[3] = 32;
	mode[6] = WIDTH;
	mode[8] = 0;
	mode[9] = 0;
	mode[4] = 0x41; /* on, linear */
	for (int y = 0; y < HEIGHT; y++)
		for (int x = 0; x < WIDTH; x++)
			pixels[y * WIDTH + x] = colour(x, y) & mask;
	say("PAINTED\n");
}

static int has_word(const char *line, const char *word)
{
	for (; *line; line++) {
		int n = 0;

		while (word[n] && line[n] == word[n])
			n++;
		if (!word[n])
			return 1;
	}
	return 0;
}

static void power_off(void)
{
	say("TINY BYE\n");
	for (;;)
		out16(PM_CONTROL, SLEEP_ENABLE); /* sleep type 0 is S5 in QEMU */
}

static void crash(void)
{
	static const struct { u16 limit; u32 base; } __attribute__((packed)) nothing;

	say("TINY CRASH\n");
	__asm__ volatile("lidt %0; int3" : : "m"(nothing));
}

static void hear(u8 letter, u32 gpu)
{
	switch (letter) {
	case 'q':
		power_off();
		break;
	case 'r':
		say("TINY RESET\n");
		out8(RESET_CONTROL, 6);
		break;
	case 'c':
		crash();
		break;
	case 'h':
		say("TINY HANG\n");
		for (;;)
			__asm__ volatile("cli; hlt");
	case 'd':
		if (gpu)
			paint(gpu, 0x7f7f7f);
		break;
	}
}

void guest(const struct loader_info *info)
{
	int stubborn = (info->flags & 4) && has_word((const char *)info->command_line, "stubborn");
	u32 gpu;

	say("TINY HELLO\n");
	gpu = walk(0, 0);
	if (gpu)
		paint(gpu, 0xffffff);
	out16(PM_EVENT + 2, POWER_BUTTON);
	say(stubborn ? "TINY READY stubborn\n" : "TINY READY\n");
	for (;;) {
		if (in16(PM_EVENT) & POWER_BUTTON) {
			out16(PM_EVENT, POWER_BUTTON);
			say("TINY POWER BUTTON\n");
			if (!stubborn)
				power_off();
		}
		if (in8(COM1 + 5) & 1)
			hear(in8(COM1), gpu);
		/* In a nested guest each port access is an expensive exit. */
		for (volatile int i = 0; i < 20000; i++)
			;
	}
}
