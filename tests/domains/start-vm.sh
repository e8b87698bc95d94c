#!/bin/bash
# Windows 10 with a second card, by hand.
GPU=0b:00.0
SOUND=0b:00.1
DISK="/dev/disk/by-id/ata-EXAMPLE_SSD_0002"

sudo modprobe vfio-pci
echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor
cp /usr/share/OVMF/OVMF_VARS.fd /tmp/my_vars.fd

OPTS="-name games,process=games -machine type=q35,accel=kvm"
OPTS="$OPTS -cpu host,kvm=off,hv_relaxed,hv_vapic,hv_time,hv_vendor_id=1234567890ab"
args=(
  -smp 8,sockets=1,cores=4,threads=2
  -m 16G -mem-prealloc
)

qemu-system-x86_64 $OPTS "${args[@]}" \
  -enable-kvm \
  -rtc base=localtime \
  -nodefaults -vga none -nographic \
  -serial none -parallel none -monitor stdio \
  -drive if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE.fd \
  -drive if=pflash,format=raw,file=/tmp/my_vars.fd \
  -device virtio-scsi-pci,id=scsi \
  -drive id=system,if=none,format=raw,cache=none,aio=native,file=$DISK \
  -device scsi-hd,drive=system,bootindex=1 \
  -cdrom /srv/iso/virtio-win.iso \
  -device vfio-pci,host=$GPU,multifunction=on,x-vga=on \
  -device vfio-pci,host=$SOUND \
  -device usb-host,vendorid=0x046d,productid=0xc547 \
  -device usb-host,hostbus=3,hostport=2.1 \
  -netdev user,id=net0,hostfwd=tcp::3389-:3389 \
  -device virtio-net-pci,netdev=net0,mac=52:54:00:ab:cd:01 \
  -audiodev pa,id=snd -device ich9-intel-hda -device hda-duplex,audiodev=snd \
  -object input-linux,id=kbd,evdev=/dev/input/by-id/usb-EXAMPLE_Keyboard-event-kbd,grab_all=on,repeat=on \
  -device ich9-ahci,id=ahci -device ioh3420,id=root1 \
  -drive id=scratch,if=none,snapshot=on,format=raw,file=/srv/scratch.raw -device ide-hd,bus=ahci.1,drive=scratch \
  -net nic,model=virtio -net user,smb=/srv/share \
  -device edu,bus=root1

echo powersave | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor
