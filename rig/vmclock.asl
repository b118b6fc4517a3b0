// The ACPI table of an x86-64 guest. It describes a vmclock page at 0x30000000 with notifications by
// interrupt 5. The Linux driver finds the device by these names.
DefinitionBlock ("", "SSDT", 2, "VMCLK", "VMCLKRIG", 1)
{
  Scope (\_SB)
  {
    // Not VCLK, the name of QEMU's own device, so that a guest can have both.
    Device (RVCK)
    {
      Name (_HID, "AMZNC10C")
      Name (_CID, "VMCLOCK")
      Name (_DDN, "VMCLOCK")
      Name (_UID, "RIG")
      Name (_STA, 0x0F)
      Name (_CRS, ResourceTemplate () {
        QWordMemory (ResourceConsumer, PosDecode, MinFixed, MaxFixed, Cacheable, ReadOnly,
          0, 0x30000000, 0x30000FFF, 0, 0x1000)
      })
    }

    // A generic event device, which turns the interrupt into the notification.
    Device (RGED)
    {
      Name (_HID, "ACPI0013")
      Name (_UID, "RIG")
      Name (_STA, 0x0F)
      Name (_CRS, ResourceTemplate () {
        Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { 5 }
      })
      Method (_EVT, 1, Serialized)
      {
        Notify (\_SB.RVCK, 0x80)
      }
    }
  }
}
