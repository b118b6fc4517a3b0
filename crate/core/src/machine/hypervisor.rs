//! What the CPU says about running under a hypervisor.

/// The hypervisor's signature, such as `KVMKVMKVM` or `TCGTCGTCGTCG`: CPUID leaf 0x4000_0000 where
/// leaf 1 says that there is a hypervisor (ECX bit 31; Intel and AMD leave it to hypervisors).
///
/// `None` where no hypervisor shows itself, and on Arm, whose CPUs have no such thing. Whatever is not
/// printable ASCII is escaped.
#[must_use]
pub fn signature() -> Option<String> {
    registers().map(text)
}

/// Its twelve bytes without the zeros that fill them up.
fn text(registers: [u32; 3]) -> String {
    let bytes = registers.map(u32::to_le_bytes);
    let bytes = bytes.as_flattened();
    let end = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    bytes
        .get(..end)
        .unwrap_or_default()
        .escape_ascii()
        .to_string()
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

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn a_signature_is_what_stands_in_the_registers_and_fit_to_be_shown() {
        let [kvm, m] = [*b"KVMK", *b"VMKV"].map(u32::from_le_bytes);
        assert_eq!(text([kvm, m, u32::from(b'M')]), "KVMKVMKVM");
        assert_eq!(text([u32::from_le_bytes(*b"\x1b[2J"), 0, 0]), "\\x1b[2J");
        assert_eq!(text([0; 3]), "");
    }
}
