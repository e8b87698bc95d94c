#!/bin/bash
for governor in /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor; do
    echo ondemand > $governor
done
