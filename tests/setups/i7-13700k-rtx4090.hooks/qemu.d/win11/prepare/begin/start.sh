#!/bin/bash
source /etc/libvirt/hooks/kvm.conf

systemctl stop sddm.service

for console in vtcon0 vtcon1; do
    echo 0 > /sys/class/vtconsole/$console/bind
done
echo efi-framebuffer.0 > /sys/bus/platform/drivers/efi-framebuffer/unbind

# The drivers need a while
sleep 5

modprobe -r nvidia_drm
modprobe -r nvidia_modeset
modprobe -r drm_kms_helper
modprobe -r nvidia_uvm
modprobe -r nvidia
modprobe -r i2c_nvidia_gpu
modprobe -r drm

virsh nodedev-detach $VIRSH_GPU_VIDEO
virsh nodedev-detach $VIRSH_GPU_AUDIO

modprobe vfio
modprobe vfio_pci
modprobe vfio_iommu_type1
