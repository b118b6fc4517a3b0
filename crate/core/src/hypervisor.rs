//! What the CPU says about running under a hypervisor.

/// The hypervisor's signature, such as `KVMKVMKVM` or `TCGTCGTCGTCG`: CPUID leaf 0x4000_0000 where
/// leaf 1 says that there is a hypervisor (ECX bit 31; Intel and AMD leave it to hypervisors).
///
/// `None` where no hypervisor shows itself, and on Arm, whose CPUs have no such thing. Whatever is not
/// printable ASCII is escaped.
#[must_use]
pub fn signature() -> Option<String> {
    registers().map(|registers| {
        let bytes = registers.map(u32::to_le_bytes);
        let text = bytes.as_flattened();
        let end = text
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        text.get(..end)
            .unwrap_or_default()
            .escape_ascii()
            .to_string()
    })
}

#[cfg(target_arch = "x86_64")]
fn registers() -> Option<[u32; 3]> {
    use core::arch::x86_64::__cpuid;
    const HYPERVISOR_PRESENT: u32 = 1 << 31;
    if __cpuid(1).ecx & HYPERVISOR_PRESENT == 0 {
        return None;
    }
    let leaf = __cpuid(0x4000_0000);
    Some([leaf.ebx, leaf.ecx, leaf.edx])
}

#[cfg(not(target_arch = "x86_64"))]
fn registers() -> Option<[u32; 3]> {
    None
}
