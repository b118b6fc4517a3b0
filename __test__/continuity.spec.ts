// A token shows on any page, with or without time, whether this is still the same machine.

import test from 'ava'
import { VmClockPublisher } from 'vmclock'
import { FLAG, liveFields, newPath, open, page, refuses, timeFields } from './pages'

// The pages that hypervisors provide today.
const SHAPES = [
  ['EC2 and QEMU: marker only', { size: 0x1000, counterId: 0xff, disruptionMarker: 7n }],
  ['the smallest legal page', { size: 0x20, counterId: 0xff, disruptionMarker: 7n }],
  [
    'Firecracker: marker and generation',
    {
      size: 0x1000,
      counterId: 0xff,
      flags: FLAG.VM_GEN_COUNTER_PRESENT,
      disruptionMarker: 7n,
      vmGenerationCounter: 9n,
    },
  ],
] as const

for (const [what, fields] of SHAPES) {
  test(`isContinuous notices a disruption and nothing else: ${what}`, (t) => {
    const made = page(t, fields)
    const clock = open(t, made.path)
    t.false(clock.hasTime)
    const token = clock.continuityToken()
    t.true(clock.isContinuous(token))
    made.write({ leapIndicator: 1 })
    made.write({ flags: ('flags' in fields ? fields.flags : 0n) | FLAG.DISRUPTION_SOON })
    t.true(clock.isContinuous(token))
    made.write({ disruptionMarker: 8n })
    t.false(clock.isContinuous(token))
    t.true(clock.isContinuous(clock.continuityToken()))
    const counter = clock.counter()
    t.true(clock.counter() > counter)
  })
}

test('isContinuous notices a changed generation', (t) => {
  const flags = FLAG.VM_GEN_COUNTER_PRESENT
  const made = page(t, { flags, disruptionMarker: 1n, vmGenerationCounter: 1n })
  const clock = open(t, made.path)
  const token = clock.continuityToken()
  made.write({ vmGenerationCounter: 2n })
  t.false(clock.isContinuous(token))
  made.write({ vmGenerationCounter: 1n, flags: 0n })
  t.false(clock.isContinuous(token))
})

test('isContinuous ignores a generation without its flag', (t) => {
  const made = page(t, { disruptionMarker: 1n, vmGenerationCounter: 1n })
  const clock = open(t, made.path)
  const token = clock.continuityToken()
  made.write({ vmGenerationCounter: 2n })
  t.true(clock.isContinuous(token))
})

test('isContinuous reads a token again if the token can have changed', (t) => {
  const made = page(t, { disruptionMarker: 7n })
  const clock = open(t, made.path)
  const token = clock.continuityToken()
  t.true(clock.isContinuous(token))
  // A copy is not frozen. It is continuous now.
  const copy: { disruptionMarker: bigint; vmGeneration: bigint | undefined } = { ...token }
  t.true(clock.isContinuous(copy))
  copy.disruptionMarker = 8n
  t.false(clock.isContinuous(copy))
  t.true(clock.isContinuous(token))
  made.write({ disruptionMarker: 8n })
  t.false(clock.isContinuous(token))
  t.true(clock.isContinuous(copy))
  t.false(clock.isContinuous(token))
  // A getter's own call does not replace the token that is being read.
  const sly = {
    get disruptionMarker() {
      clock.isContinuous(token)
      return 8n
    },
    vmGeneration: undefined,
  }
  t.true(clock.isContinuous(sly))
  t.false(clock.isContinuous(token))
})

test('a token from before a disruption is never continuous again, after any call', (t) => {
  const made = page(t, { ...liveFields(t), disruptionMarker: 7n })
  const clock = open(t, made.path)
  const token = clock.continuityToken()
  const calls: Array<() => unknown> = [
    () => undefined,
    () => clock.nowNs(),
    () => clock.read(),
    () => clock.continuityToken(),
    () => clock.snapshot(),
  ]
  for (const call of calls) {
    made.write({ disruptionMarker: 7n })
    t.true(clock.isContinuous(token))
    t.true(clock.isContinuous(token))
    made.write({ disruptionMarker: 8n })
    // Another call may be the first to see the new state.
    call()
    t.false(clock.isContinuous(token))
    t.false(clock.isContinuous(token))
    made.write({ leapIndicator: 0 })
    call()
    t.false(clock.isContinuous(token))
  }
})

test('a refused token does not change the next answer', (t) => {
  const made = page(t, { disruptionMarker: 7n })
  const clock = open(t, made.path)
  const token = clock.continuityToken()
  t.true(clock.isContinuous(token))
  const half = { disruptionMarker: 8n, vmGeneration: -1n }
  refuses(t, () => clock.isContinuous(half), 'ERR_VMCLOCK_INVALID_ARGUMENT', /vmGeneration/)
  t.true(clock.isContinuous(token))
})

test('convert refuses a counter from before a disruption', (t) => {
  const made = page(t, liveFields(t))
  const clock = open(t, made.path)
  const token = clock.continuityToken()
  const counter = clock.counter()
  t.is(clock.convert(counter, token).counter, counter)
  made.write({ disruptionMarker: 1n })
  const remedy = /take a new token and read the counter again/
  const out = new BigInt64Array(1).fill(5n)
  const counters = new BigUint64Array([counter])
  refuses(t, () => clock.convert(counter, token), 'ERR_VMCLOCK_DISRUPTED', remedy)
  refuses(t, () => clock.convertInto(counters, out, token), 'ERR_VMCLOCK_DISRUPTED', remedy)
  t.is(out[0], 5n)
  clock.convertInto(counters, out, clock.continuityToken())
  t.is(out[0], clock.convert(counter, clock.continuityToken()).epochNs)
})

test('convert takes a counter from before an update', (t) => {
  const made = page(t, timeFields(1_000_000n))
  const clock = open(t, made.path)
  const token = clock.continuityToken()
  made.write({ counterValue: 1_001_000_000n, timeSec: 1767225601n })
  t.is(clock.convert(1_000_000n, token).epochNs, 1767225600_000000000n)
})

test("isContinuous accepts another clock's token, and a reading", (t) => {
  const { path } = page(t, liveFields(t))
  const [first, second] = [open(t, path), open(t, path)]
  t.true(second.isContinuous(first.continuityToken()))
  t.true(second.isContinuous(first.read()))
})

test('a change by the publisher is visible when its call returns', (t) => {
  const publisher = VmClockPublisher.create(newPath(t), { shape: 'marker-and-generation' })
  t.teardown(() => publisher.close())
  const clock = open(t, publisher.path)
  const first = clock.continuityToken()
  publisher.disrupt()
  t.false(clock.isContinuous(first))
  const second = clock.continuityToken()
  t.is(second.vmGeneration, first.vmGeneration)
  publisher.bumpGeneration()
  t.false(clock.isContinuous(second))
  t.not(clock.continuityToken().vmGeneration, first.vmGeneration)
  const announced = (): boolean[] => {
    const { disruptionSoon, disruptionImminent } = clock.snapshot()
    return [disruptionSoon, disruptionImminent]
  }
  t.deepEqual(announced(), [false, false])
  publisher.setMaintenance('soon')
  t.deepEqual(announced(), [true, false])
  publisher.setMaintenance('imminent')
  t.deepEqual(announced(), [true, true])
  publisher.setMaintenance('none')
  t.deepEqual(announced(), [false, false])
})
