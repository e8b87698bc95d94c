#!/bin/bash
source /etc/libvirt/hooks/kvm.conf

for cpu in {0..15}; do
    policy=/sys/devices/system/cpu/cpu$cpu/cpufreq
    echo $CPU_MAX_FREQ > $policy/scaling_min_freq
    echo performance > $policy/scaling_governor
done
