#!/bin/bash
source "/etc/libvirt/hooks/kvm.conf"
systemctl set-property --runtime -- system.slice AllowedCPUs=0-15
virsh nodedev-reattach $VIRSH_GPU_VIDEO
virsh nodedev-reattach $VIRSH_GPU_AUDIO
modprobe -r vfio-pci
echo 1 > /sys/class/vtconsole/vtcon0/bind
nvidia-xconfig --query-gpu-info > /dev/null 2>&1
modprobe nvidia_drm
echo 0 > /proc/sys/vm/nr_hugepages
echo powersave | tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor
systemctl start display-manager.service
