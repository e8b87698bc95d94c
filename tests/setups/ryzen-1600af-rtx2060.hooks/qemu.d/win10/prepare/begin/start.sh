#!/bin/bash
source /etc/libvirt/hooks/kvm.conf

systemctl stop lightdm.service
echo 0 > /sys/class/vtconsole/vtcon0/bind
echo efi-framebuffer.0 > /sys/bus/platform/drivers/efi-framebuffer/unbind
sleep 5

for module in nvidia_drm nvidia_modeset drm_kms_helper nvidia i2c_nvidia_gpu drm; do
    modprobe -r $module
done

for device in $VIRSH_GPU_VIDEO $VIRSH_GPU_AUDIO $VIRSH_GPU_USB $VIRSH_GPU_SERIAL; do
    virsh nodedev-detach $device
done

modprobe vfio
modprobe vfio_pci
modprobe vfio_iommu_type1
