#!/bin/bash
source /etc/libvirt/hooks/kvm.conf

vfio-isolate restore $UNDOFILE
echo $TOTAL_CORES_MASK > /sys/bus/workqueue/devices/writeback/cpumask
for slice in user.slice system.slice init.scope; do
    systemctl set-property --runtime -- $slice AllowedCPUs=$TOTAL_CORES
done
