#!/bin/bash
source /etc/libvirt/hooks/kvm.conf

for slice in user.slice system.slice init.scope; do
    systemctl set-property --runtime -- $slice AllowedCPUs=$HCPUS
done
echo $HOST_CORES_MASK > /sys/bus/workqueue/devices/writeback/cpumask

vfio-isolate -u $UNDOFILE drop-caches cpuset-create --cpus C$HCPUS /host.slice move-tasks / /host.slice irq-affinity mask C$MCPUS
