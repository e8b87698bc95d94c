#!/usr/bin/env bash
# Starts a guest in the ways that scripts have: arrays, defaults, sums, nodes, old options.
CORES=4 THREADS=2
SMP=$((CORES * THREADS))
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
export GPU=01:00
screen=none
[[ "$1" == debug ]] && screen=std
if [[ -n "$BIG" ]]; then RAM=32G; else RAM=16G; fi
local -a disks=(
  -blockdev '{"driver":"file","filename":"/vm/system.qcow2","node-name":"f0"}'
  -blockdev driver=qcow2,file=f0,node-name=d0
  -device virtio-blk-pci,drive=d0,bootindex=2
  -drive "id=boot,if=none,snapshot=on,format=qcow2,file=./boot.qcow2"
  -device ich9-ahci,id=sata -device ide-hd,bus=sata.2,drive=boot,bootindex=1
  -drive file=$HERE/data.raw,id=old -device ide-hd,drive=old
)
case "$1" in
  big|huge) modprobe vfio-pci ;;
esac
sudo qemu-system-x86_64 -enable-kvm -machine q35,usb=off -smp $SMP,cores=$CORES,threads=$THREADS -m ${RAM:-8G} \
  -cpu ${MODEL:-host},kvm=off -vga $screen -realtime mlock=off -no-quit -alt-grab -no-fd-bootchk \
  `# the card` \
  -device vfio-pci,host=$GPU.0,romfile=$HERE/gpu.rom,x-pci-device-id=0x1234 -device vfio-pci,host=$GPU.1 \
  -net user -net nic,model=virtio,macaddr=52:54:00:00:00:07 -netdev tap,id=t0,script=/etc/qemu-ifup -device e1000e,netdev=t0 \
  -numa node,memdev=mem -object memory-backend-memfd,id=mem,size=16G,hugetlb=on,hugetlbsize=1G,share=on \
  -drive if=floppy,file=a.img -watchdog i6300esb -global PIIX4_PM.disable_s3=1 -snapshot -no-reboot "${disks[@]}"
qemu-system-x86_64 --version
