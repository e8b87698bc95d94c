#!/bin/bash
source /etc/libvirt/hooks/kvm.conf

for cpu in {0..15}; do
    policy=/sys/devices/system/cpu/cpu$cpu/cpufreq
    echo $CPU_MIN_FREQ > $policy/scaling_min_freq
    echo powersave > $policy/scaling_governor
done
