import test from 'ava'
import type { Check } from 'vmclock/doctor'
import { type Changes, diagnoseStaged } from './staged-machine'

const SHM1 = '/run/clockbound/shm1'
const SHM0 = '/run/clockbound/shm0'

/** Memory of version 3, whose daemon is synchronized and knows a marker. */
function memory(marker: bigint, change: (bytes: Buffer) => unknown = () => {}): Buffer {
  const bytes = Buffer.alloc(104)
  bytes.writeUInt32LE(0x414d5a4e, 0x00)
  bytes.writeUInt32LE(0x43420200, 0x04)
  bytes.writeUInt32LE(104, 0x08)
  bytes.writeUInt16LE(0x0303, 0x0c)
  bytes.writeUInt16LE(2, 0x0e)
  bytes.writeBigInt64LE(1_800_000_000n, 0x18)
  bytes.writeBigInt64LE(1_800_001_000n, 0x28)
  bytes.writeBigUInt64LE(1n << 63n, 0x38)
  bytes.writeBigInt64LE(50_000n, 0x48)
  bytes.writeBigUInt64LE(marker, 0x50)
  bytes.writeInt32LE(1, 0x5c)
  bytes.writeUInt8(1, 0x60)
  change(bytes)
  return bytes
}

function check(t: Parameters<typeof diagnoseStaged>[0], changes: Changes): Check {
  const { checks } = diagnoseStaged(t, { page: { disruptionMarker: 7n }, ...changes })
  const found = checks.find(({ name }) => name === 'clockbound')
  if (found === undefined) throw new Error('the doctor did not check ClockBound')
  return found
}

test('a machine without ClockBound has nothing to check', (t) => {
  t.like(check(t, {}), { state: 'skipped' })
})

test('a synchronized daemon is ok, with its version, status, bound and marker', (t) => {
  t.like(check(t, { files: { [SHM1]: memory(7n) } }), {
    state: 'ok',
    details: {
      version: 3,
      status: 'synchronized',
      boundNs: '50000',
      disruptionMarker: '7',
    },
  })
})

test('a daemon whose figures are not used is a warning that says why', (t) => {
  const cases: ReadonlyArray<[files: Record<string, Buffer>, finding: RegExp]> = [
    [{ [SHM1]: memory(8n) }, /has not followed a disruption/],
    [{ [SHM1]: memory(7n, (bytes) => bytes.writeUInt8(0, 0x60)) }, /does not look at/],
    [{ [SHM1]: memory(7n, (bytes) => bytes.writeInt32LE(0, 0x5c)) }, /its clock is unknown/],
    [{ [SHM1]: memory(7n, (bytes) => bytes.writeInt32LE(3, 0x5c)) }, /its clock is disrupted/],
    [{ [SHM0]: memory(7n, (bytes) => bytes.writeUInt16LE(1, 0x0c)) }, /shm0.*version 1/],
    [{ [SHM1]: Buffer.from('no memory') }, /cannot be used/],
  ]
  for (const [files, finding] of cases) {
    const found = check(t, { files })
    t.is(found.state, 'warning', String(finding))
    t.regex(found.finding, finding)
    t.truthy(found.remedy)
  }
})

test('a synchronized daemon that the page does not use is named as the better source', (t) => {
  const unguarded = memory(7n, (bytes) => bytes.writeUInt8(0, 0x60))
  for (const from of ['kernel', 'phc'] as const) {
    const found = check(t, { published: {}, from, files: { [SHM1]: unguarded } })
    t.is(found.state, 'warning', from)
    t.regex(found.finding, from === 'kernel' ? /the kernel's clock/ : /a PTP clock/)
    t.regex(found.remedy ?? '', /--from auto/)
  }
  const used = check(t, { published: {}, from: 'clockbound', files: { [SHM1]: unguarded } })
  t.is(used.state, 'ok')
})
