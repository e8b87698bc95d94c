// The battery and the mains adapter of a laptop, which is always full and always plugged in (ACPI 6.5, chapter 10). Drivers of
// laptops' graphics cards look for a battery and give up on a machine that has none.
//
// `iasl -p battery battery.asl` makes battery.aml of it; a test compares the two.
DefinitionBlock ("battery.aml", "SSDT", 2, "VFIORN", "BATTERY", 0x00000001)
{
    Scope (\_SB)
    {
        Device (VAC0)
        {
            Name (_HID, "ACPI0003")
            Name (_PCL, Package () { \_SB })
            Method (_PSR, 0, NotSerialized) { Return (One) }
            Method (_STA, 0, NotSerialized) { Return (0x0F) }
        }
        Device (VBAT)
        {
            Name (_HID, EisaId ("PNP0C0A"))
            Name (_UID, One)
            Name (_PCL, Package () { \_SB })
            Method (_STA, 0, NotSerialized) { Return (0x1F) }
            // In mWh and mV.
            Method (_BIF, 0, NotSerialized)
            {
                Return (Package () { Zero, 50000, 50000, One, 11400, 2500, 500, One, One, "Virtual", "1", "LION", "vfio-run" })
            }
            Method (_BST, 0, NotSerialized) { Return (Package () { Zero, Zero, 50000, 11400 }) }
        }
    }
}
