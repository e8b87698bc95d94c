//! Each variant boots and is what it claims; those that no template holds are tried together, on one host.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::passthrough::{machine, prepare};
use crate::kit::host::{Device, at};
use crate::kit::lab::{Lab, releases};
use crate::kit::thorough;

/// What QEMU can do is asked first, which takes an emulated host long.
const CHECK: Duration = Duration::from_secs(300);

/// Starts a variant, looks at it, and asks of every host what every host must be.
fn look(name: &str, release: &str, check: impl FnOnce(&Lab) -> Result<()>) -> Result<()> {
    let lab = Lab::variant(name, release).start()?;
    let groups = lab.sh("ls /sys/kernel/iommu_groups | wc -l")?;
    ensure!(groups != "0", "there are no IOMMU groups");
    ensure!(lab.sh("ls /lab/guests")?.contains("tiny"), "the payload is not mounted");
    check(&lab)?;
    lab.finish()
}

fn driver(lab: &Lab, device: &str) -> Result<String> {
    lab.sh(&format!("basename $(readlink /sys/bus/pci/devices/{device}/driver)"))
}

/// The devices that share an IOMMU group with this one, itself included.
fn group(lab: &Lab, device: &str) -> Result<Vec<String>> {
    let list = lab.sh(&format!("ls /sys/bus/pci/devices/{device}/iommu_group/devices"))?;
    Ok(list.split_whitespace().map(str::to_owned).collect())
}

fn read(lab: &Lab, path: &str) -> Result<String> {
    lab.sh(&format!("cat {path}"))
}

#[test]
fn bare_has_no_screen() -> Result<()> {
    look("bare", "debian13", |lab| {
        ensure!(lab.run("ls /dev/dri")?.status != 0);
        ensure!(lab.sh("nproc")? == "4");
        Ok(())
    })
}

#[test]
fn a_host_is_a_whole_system() -> Result<()> {
    for release in releases() {
        look("one-gpu", release, |lab| {
            ensure!(lab.sh("systemctl is-system-running")? == "running", "{}", lab.sh("systemctl --failed")?);
            let kernel = lab.sh("uname -r")?;
            let qemu = lab.sh("qemu-system-x86_64 --version | head -n 1")?;
            let (kernel_is, qemu_is) = if release == "debian12" { ("6.1.", "7.2") } else { ("6.12.", "10.0") };
            ensure!(kernel.starts_with(kernel_is) && qemu.contains(qemu_is), "{kernel}, {qemu}");
            ensure!(lab.sh("stat -fc %T /sys/fs/cgroup")? == "cgroup2fs");
            ensure!(lab.sh("modprobe kvm_amd && ls /dev/kvm")? == "/dev/kvm");
            ensure!(read(lab, "/sys/module/kvm_amd/parameters/npt")? == "Y", "no nested paging");
            let user = lab.run_as_user("id -un; cat /proc/self/cgroup; test -w /dev/kvm")?.ok()?;
            ensure!(user.starts_with("tester") && user.contains("session-"), "the user has no session: {user}");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn one_gpu_is_a_group_of_two_with_the_console_on_it() -> Result<()> {
    for release in releases() {
        look("one-gpu", release, |lab| {
            ensure!(driver(lab, at::GPU)? == "bochs-drm");
            ensure!(driver(lab, at::GPU_SOUND)? == "snd_hda_intel");
            ensure!(group(lab, at::GPU)? == [at::GPU, at::GPU_SOUND]);
            ensure!(read(lab, &format!("/sys/bus/pci/devices/{}/boot_vga", at::GPU))? == "1");
            ensure!(read(lab, "/proc/fb")?.contains("bochs"));
            ensure!(lab.sh("cat /sys/class/vtconsole/*/name")?.contains("frame buffer device"));
            ensure!(read(lab, &format!("/sys/bus/pci/devices/{}/reset_method", at::GPU))? == "bus");
            ensure!(lab.screenshot("screen")?.colours() > 1, "the screen is empty");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn two_gpus_are_two_groups() -> Result<()> {
    look("two-gpus", "debian13", |lab| {
        ensure!(driver(lab, at::GPU)? == "bochs-drm" && driver(lab, at::SECOND_GPU)? == "bochs-drm");
        ensure!(group(lab, at::SECOND_GPU)? == [at::SECOND_GPU, at::SECOND_GPU_SOUND]);
        ensure!(driver(lab, at::SECOND_GPU_SOUND)? == "snd_hda_intel");
        ensure!(read(lab, &format!("/sys/bus/pci/devices/{}/class", at::SECOND_GPU))? == "0x038000");
        ensure!(lab.sh("ls /dev/dri")?.contains("card1"));
        lab.second_screenshot("second").map(drop)
    })
}

#[test]
fn uefi_has_a_boot_framebuffer() -> Result<()> {
    for release in thorough::releases() {
        look("uefi", release, |lab| {
            ensure!(lab.sh("ls -d /sys/firmware/efi")? == "/sys/firmware/efi");
            // The GPU's driver took the boot framebuffer over; it was there before.
            let log = lab.sh("dmesg | grep -iE 'efifb|simple-framebuffer|simpledrm|BOOTFB' | head -n 3")?;
            ensure!(!log.is_empty(), "the kernel never had a boot framebuffer");
            ensure!(driver(lab, at::GPU)? == "bochs-drm");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn virtio_gpu_has_function_level_reset_and_a_switch_without_acs() -> Result<()> {
    look("virtio-gpu", "debian13", |lab| {
        ensure!(read(lab, &format!("/sys/bus/pci/devices/{}/class", at::GPU))? == "0x030000");
        ensure!(read(lab, &format!("/sys/bus/pci/devices/{}/reset_method", at::GPU))?.contains("flr"));
        ensure!(driver(lab, at::GPU)? == "virtio-pci");
        ensure!(lab.sh("cat /proc/fb")?.contains("virtio"));
        for device in at::BELOW_SWITCH {
            ensure!(driver(lab, device)? == "e1000e");
            ensure!(group(lab, device)?.len() > 1, "{device} is alone in its group");
        }
        Ok(())
    })
}

#[test]
fn nvme_is_plugged_into_a_clone() -> Result<()> {
    look("nvme", "debian13", |lab| {
        ensure!(driver(lab, at::NVME)? == "nvme");
        ensure!(group(lab, at::NVME)? == [at::NVME]);
        ensure!(read(lab, "/sys/block/nvme0n1/size")? == "131072");
        lab.unplug("nvme")?;
        lab.wait_until("! [ -e /dev/nvme0n1 ]", Duration::from_secs(20))
    })
}

#[test]
fn usb_has_keyboard_mouse_and_disk() -> Result<()> {
    look("usb", "debian12", |lab| {
        ensure!(driver(lab, at::USB)? == "xhci_hcd");
        let names = lab.sh("ls /dev/input/by-id /dev/disk/by-id")?;
        for part in ["USB_Keyboard", "USB_Mouse", "event-kbd", "event-mouse", "LABSTICK"] {
            ensure!(names.contains(part), "no {part} in\n{names}");
        }
        let press = lab.start("timeout 30 head -c 24 /dev/input/by-id/*event-kbd | od -A n -t u2")?;
        lab.wait_until("pgrep -x head", Duration::from_secs(20))?;
        lab.press_keys("a")?;
        ensure!(!press.wait(Duration::from_secs(30))?.ok()?.is_empty(), "no key press arrived");
        Ok(())
    })
}

/// Devices that no template holds, on one host, which boots with them in full.
#[test]
fn devices_that_are_there_from_the_boot() -> Result<()> {
    let lab = Lab::host("debian13").device(Device::SrIov).device(Device::NoReset).full_boot().start()?;
    in_turn!(&lab; sriov_gives_two_functions, a_device_without_reset_is_told_before_it_is_given);
    lab.finish()
}

fn sriov_gives_two_functions(lab: &Lab) -> Result<()> {
    let device = format!("/sys/bus/pci/devices/{}", at::NIC);
    ensure!(read(lab, &format!("{device}/sriov_totalvfs"))? == "2");
    lab.sh(&format!("echo 2 >{device}/sriov_numvfs"))?;
    let functions = lab.sh(&format!("for link in {device}/virtfn*; do basename $(readlink $link); done"))?;
    let functions: Vec<&str> = functions.split_whitespace().collect();
    ensure!(functions.len() == 2);
    ensure!(group(lab, functions[0])? == [functions[0]]);
    a_virtual_function_is_the_guests(lab, functions[0])?;
    lab.sh(&format!("echo 0 >{device}/sriov_numvfs")).map(drop)
}

/// Its ids read as ones, as a dead card's do.
fn a_virtual_function_is_the_guests(lab: &Lab, function: &str) -> Result<()> {
    prepare(lab)?;
    let config = lab.sh(&format!("od -A n -t x1 -N 2 /sys/bus/pci/devices/{function}/config"))?;
    ensure!(config.trim() == "ff ff", "{config}");
    let file = lab.install_machine("virtual", &machine(&format!(r#"pci: ["{function}"]"#)))?;
    let job = lab.start(&format!("exec /lab/bin/vfio-run -v {file}"))?;
    job.wait_until("grep -q READY /run/lab/guest.log", CHECK)?;
    let driver = lab.sh(&format!("basename $(readlink /sys/bus/pci/devices/{function}/driver)"))?;
    ensure!(driver == "vfio-pci", "{driver}");
    lab.sh("/lab/bin/vfio-run stop virtual")?;
    job.wait(CHECK)?.ok().map(drop)
}

fn a_device_without_reset_is_told_before_it_is_given(lab: &Lab) -> Result<()> {
    prepare(lab)?;
    let device = lab.sh("basename $(dirname $(grep -l 0x11e8 /sys/bus/pci/devices/*/device))")?;
    ensure!(lab.run(&format!("cat /sys/bus/pci/devices/{device}/reset_method"))?.stdout.is_empty());
    let file = lab.install_machine("other", &machine(&format!(r#"pci: ["{device}"]"#)))?;
    let checked = lab.run_for(&format!("/lab/bin/vfio-run check {file}"), CHECK)?;
    let told = format!("the kernel cannot reset {device}");
    let warned = checked.stdout.lines().any(|line| line.starts_with("warn ") && line.contains(&told));
    ensure!(checked.status == 0 && warned, "{checked}");
    Ok(())
}

#[test]
fn numa_has_two_nodes_and_siblings() -> Result<()> {
    for release in thorough::releases() {
        look("numa", release, |lab| {
            ensure!(lab.sh("cat /sys/devices/system/node/node*/cpulist")? == "0-3\n4-7");
            ensure!(read(lab, &format!("/sys/bus/pci/devices/{}/numa_node", at::FAR_NIC))? == "1");
            // The emulated processor has no topoext, without which the older kernel sees cores only.
            let siblings = read(lab, "/sys/devices/system/cpu/cpu0/topology/thread_siblings_list")?;
            ensure!(siblings == if *release == "debian13" { "0-1" } else { "0" }, "{siblings}");
            lab.sh("echo 64 >/sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages")?;
            ensure!(read(lab, "/sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages")? == "64");
            frequencies_can_be_chosen(lab)
        })?;
    }
    Ok(())
}

fn frequencies_can_be_chosen(lab: &Lab) -> Result<()> {
    lab.sh("modprobe acpi-cpufreq")?;
    let policy = "/sys/devices/system/cpu/cpufreq/policy7";
    let governors = read(lab, &format!("{policy}/scaling_available_governors"))?;
    ensure!(governors.contains("performance") && governors.contains("schedutil"), "{governors}");
    lab.sh(&format!("echo powersave >{policy}/scaling_governor"))?;
    ensure!(read(lab, &format!("{policy}/scaling_cur_freq"))? == "1400000");
    Ok(())
}

#[test]
fn plain_has_no_systemd() -> Result<()> {
    look("plain", "debian12", |lab| {
        ensure!(read(lab, "/proc/1/comm")? == "plain-init");
        ensure!(lab.run("ls -d /run/systemd")?.status != 0);
        ensure!(driver(lab, at::GPU)? == "bochs-drm");
        ensure!(lab.run("vfio-run --version")?.status != 127, "the program is not there");
        Ok(())
    })
}
