#!/bin/bash
source /etc/libvirt/hooks/kvm.conf

modprobe -r vfio_pci
modprobe -r vfio_iommu_type1
modprobe -r vfio

for device in $VIRSH_GPU_VIDEO $VIRSH_GPU_AUDIO $VIRSH_GPU_USB $VIRSH_GPU_SERIAL; do
    virsh nodedev-reattach $device
done

echo 1 > /sys/class/vtconsole/vtcon0/bind
nvidia-xconfig --query-gpu-info > /dev/null 2>&1
echo efi-framebuffer.0 > /sys/bus/platform/drivers/efi-framebuffer/bind

for module in nvidia_drm nvidia_modeset drm_kms_helper nvidia i2c_nvidia_gpu drm; do
    modprobe $module
done
systemctl start lightdm.service
