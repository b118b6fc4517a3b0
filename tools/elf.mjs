// Reads the header of a shared library for 64-bit little-endian Linux. The System V ABI defines the
// sections, and the Linux Standard Base defines the symbol versions.

const SHT_SYMTAB = 2
const SHT_DYNAMIC = 6
const SHT_GNU_VERNEED = 0x6ffffffe
const DT_NEEDED = 1n
const DT_FLAGS_1 = 0x6ffffffbn
const DF_1_NODELETE = 8n

const machineNames = new Map([
  [62, 'x86-64'],
  [183, 'aarch64'],
])

/**
 * Returns the machine, the needed libraries and symbol versions, whether the file is stripped, and whether the
 * loader never unloads it.
 */
export function describeElf(bytes) {
  if (bytes.readUInt32BE(0) !== 0x7f454c46 || bytes[4] !== 2 || bytes[5] !== 1) {
    throw new Error('not a 64-bit little-endian ELF file')
  }
  const sections = readSections(bytes)
  const of = (type) => sections.filter((section) => section.type === type)
  return {
    machine: machineNames.get(bytes.readUInt16LE(18)) ?? 'another',
    libraries: of(SHT_DYNAMIC).flatMap((section) => neededLibraries(bytes, section, sections)),
    versions: of(SHT_GNU_VERNEED).flatMap((section) => neededVersions(bytes, section, sections)),
    isStripped: of(SHT_SYMTAB).length === 0,
    isNeverUnloaded: of(SHT_DYNAMIC).some(
      (section) => (dynamicEntries(bytes, section).get(DT_FLAGS_1) ?? 0n) & DF_1_NODELETE,
    ),
  }
}

function readSections(bytes) {
  const start = Number(bytes.readBigUInt64LE(40))
  const [size, count] = [bytes.readUInt16LE(58), bytes.readUInt16LE(60)]
  return Array.from({ length: count }, (_, index) => {
    const at = start + index * size
    return {
      type: bytes.readUInt32LE(at + 4),
      offset: Number(bytes.readBigUInt64LE(at + 24)),
      size: Number(bytes.readBigUInt64LE(at + 32)),
      link: bytes.readUInt32LE(at + 40),
      count: bytes.readUInt32LE(at + 44),
    }
  })
}

function neededLibraries(bytes, { offset, size, link }, sections) {
  const names = []
  for (let at = offset; at < offset + size; at += 16) {
    if (bytes.readBigUInt64LE(at) !== DT_NEEDED) continue
    names.push(textAt(bytes, sections[link].offset + Number(bytes.readBigUInt64LE(at + 8))))
  }
  return names
}

// Returns the values of a dynamic section by their tags; of a tag that it has several times, the last.
function dynamicEntries(bytes, { offset, size }) {
  const entries = new Map()
  for (let at = offset; at < offset + size; at += 16) {
    entries.set(bytes.readBigUInt64LE(at), bytes.readBigUInt64LE(at + 8))
  }
  return entries
}

// Follows two chains of records: the libraries, and the needed versions of each.
function neededVersions(bytes, { offset, link, count }, sections) {
  const names = []
  let library = offset
  for (let left = count; left > 0; left -= 1) {
    let version = library + bytes.readUInt32LE(library + 8)
    for (let more = bytes.readUInt16LE(library + 2); more > 0; more -= 1) {
      names.push(textAt(bytes, sections[link].offset + bytes.readUInt32LE(version + 8)))
      version += bytes.readUInt32LE(version + 12)
    }
    library += bytes.readUInt32LE(library + 12)
  }
  return names
}

function textAt(bytes, start) {
  return bytes.toString('latin1', start, bytes.indexOf(0, start))
}
