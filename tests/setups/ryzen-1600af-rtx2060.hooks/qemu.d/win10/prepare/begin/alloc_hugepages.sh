#!/bin/bash
source /etc/libvirt/hooks/kvm.conf

page=$(awk '/Hugepagesize/ {print $2 / 1024}' /proc/meminfo)
wanted=$((MEMORY / page))
echo $wanted > /proc/sys/vm/nr_hugepages

# Scattered memory is put together, and it is tried again
try=0
while [ "$(cat /proc/sys/vm/nr_hugepages)" -lt $wanted ] && [ $try -lt 1000 ]; do
    echo 1 > /proc/sys/vm/compact_memory
    echo $wanted > /proc/sys/vm/nr_hugepages
    try=$((try + 1))
done

if [ "$(cat /proc/sys/vm/nr_hugepages)" -lt $wanted ]; then
    echo 0 > /proc/sys/vm/nr_hugepages
    exit 1
fi
