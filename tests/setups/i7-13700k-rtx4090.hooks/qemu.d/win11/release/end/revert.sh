#!/bin/bash
source /etc/libvirt/hooks/kvm.conf

modprobe -r vfio_pci
modprobe -r vfio_iommu_type1
modprobe -r vfio

virsh nodedev-reattach $VIRSH_GPU_VIDEO
virsh nodedev-reattach $VIRSH_GPU_AUDIO

echo 1 > /sys/class/vtconsole/vtcon0/bind
nvidia-xconfig --query-gpu-info > /dev/null 2>&1
echo efi-framebuffer.0 > /sys/bus/platform/drivers/efi-framebuffer/bind

for module in nvidia_drm nvidia_modeset drm_kms_helper nvidia i2c_nvidia_gpu drm nvidia_uvm; do
    modprobe $module
done

systemctl start sddm.service
