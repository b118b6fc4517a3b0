// One call gives time on every machine, and what is missing is said plainly. Each machine here is a mount
// namespace with devices and published pages of its own. The guests have the driver's own device.

import { chmodSync } from 'node:fs'
import test, { type ExecutionContext } from 'ava'
import { VmClock, VmClockPublisher } from 'vmclock'
import type { PageFields } from 'vmclock/testing'
import { bootIdHere, type Made, writeExtension } from './extension'
import { evaluate, inOwnMounts, run } from './node-command'
import { liveFields, newPath, page, refuses } from './pages'

interface Machine {
  /** The file that becomes /dev/vmclock0. */
  readonly device?: string
  /** The file that becomes /run/vmclock/page. */
  readonly published?: string
  /** True if the kernel lists a device that is not in /dev. */
  readonly isDeviceHidden?: boolean
  /** True if the process may not read files without a mode bit that lets it. */
  readonly isUnprivileged?: boolean
}

const REVOKE = 'setpriv --bounding-set -dac_override,-dac_read_search'

/** Returns the command that runs another one on such a machine; undefined if this system cannot stage it. */
function machine(
  t: ExecutionContext,
  { device, published, isDeviceHidden = false, isUnprivileged = false }: Machine,
): readonly string[] | undefined {
  const setUp = [
    'mount -t tmpfs none /run',
    'mkdir /run/null && : > /run/null/null && mount --bind /dev/null /run/null/null',
    'mount -t tmpfs none /dev && : > /dev/null && mount --bind /run/null/null /dev/null',
    'mount -t tmpfs none /sys/class/misc',
    ...(device === undefined ? [] : [`cp -p '${device}' /dev/vmclock0`]),
    ...(isDeviceHidden ? ['mkdir /sys/class/misc/vmclock0'] : []),
    ...(published === undefined
      ? []
      : [
          'mkdir /run/vmclock && : > /run/vmclock/page',
          `mount --bind '${published}' /run/vmclock/page`,
        ]),
    ...(isUnprivileged ? [`${REVOKE} true`] : []),
  ].join('\n')
  const by = inOwnMounts(t, setUp)
  return by === undefined || !isUnprivileged ? by : [...by, ...REVOKE.split(' ')]
}

interface Seen {
  readonly kind: string
  readonly time: boolean
  readonly isContinuous: boolean
  readonly maxErrorNs: string | null
  readonly reason: string | null
  readonly generation: string | null
  readonly guard: { readonly state: string; readonly reason?: string; readonly remedy?: string }
  readonly assumed: ReadonlyArray<{ readonly part: string; readonly by: string }>
}

/** Opens the default page on a machine, and returns what a program sees. */
function look(
  by: readonly string[],
  options: object = {},
  env: NodeJS.ProcessEnv = {},
): Promise<Seen> {
  return evaluate<Seen>(
    `const { VmClock } = require('vmclock')
    const clock = VmClock.open({ allowUntrustedCounter: true, ...${JSON.stringify(options)} })
    const { kind, guard, assumed } = clock.timeSource
    const { epochNs, maxErrorNs = null, vmGeneration = null } = clock.read()
    const text = (value) => value === null ? null : String(value)
    console.log(JSON.stringify({
      kind, guard, assumed,
      time: epochNs > 0n && clock.nowNs() >= epochNs,
      isContinuous: clock.isContinuous(clock.continuityToken()),
      maxErrorNs: text(maxErrorNs),
      reason: clock.snapshot().boundUnavailable?.reason ?? null,
      generation: text(vmGeneration),
    }))
    clock.close()`,
    [],
    { by, env },
  )
}

const MARKER_ONLY: PageFields = { disruptionMarker: 7n }

/** Makes a page of this package, and returns its path. */
function made(t: ExecutionContext, fields: PageFields = {}, extension: Made = {}): string {
  const { path } = page(t, { ...liveFields(t), ...fields })
  writeExtension(path, extension)
  return path
}

/** Publishes a page until the test ends, and returns its path. */
function publishing(t: ExecutionContext): string {
  const path = newPath(t)
  const publisher = VmClockPublisher.create(path, {
    allowUntrustedCounter: true,
    maxErrorNs: 1_000_000n,
  })
  t.teardown(() => publisher.close())
  return path
}

test('open gives time beside a device that has only the disruption marker', async (t) => {
  const by = machine(t, { device: page(t, MARKER_ONLY).path })
  if (by === undefined) return
  t.like(await look(by), { kind: 'process', time: true, isContinuous: true })
})

test('open gives time on a machine without any page', async (t) => {
  const by = machine(t, {})
  if (by === undefined) return
  t.like(await look(by), {
    kind: 'process',
    time: true,
    isContinuous: true,
    guard: { state: 'none' },
    generation: null,
  })
})

test('open takes the page of a live publisher, also beside a device without time', async (t) => {
  const published = publishing(t)
  for (const device of [undefined, page(t, MARKER_ONLY).path]) {
    const by = machine(t, { published, ...(device !== undefined && { device }) })
    if (by === undefined) return
    t.like(await look(by), { kind: 'published', time: true, isContinuous: true })
  }
})

test('open takes no page of a dead publisher, of another boot, or that is unreliable', async (t) => {
  const fields = liveFields(t)
  const ago = { counterValue: BigInt.asUintN(64, (fields.counterValue ?? 0n) - 60_000_000_000n) }
  for (const published of [
    made(t, ago),
    made(t, {}, { bootId: bootIdHere() ^ 1n }),
    made(t, { clockStatus: 4 }),
  ]) {
    const by = machine(t, { published })
    if (by === undefined) return
    t.like(await look(by), { kind: 'process', time: true })
  }
})

test('the error of a page without time names the page that has time', async (t) => {
  const device = page(t, MARKER_ONLY).path
  refuses(
    t,
    () => VmClock.open(device).nowNs(),
    'ERR_VMCLOCK_NO_TIME',
    /without a path|published here/,
  )
  const by = machine(t, { device, published: publishing(t) })
  if (by === undefined) return
  const remedy = await evaluate<string>(
    `const { VmClock } = require('vmclock')
    try { VmClock.open('/dev/vmclock0').nowNs() } catch ({ remedy }) { console.log(JSON.stringify(remedy)) }`,
    [],
    { by },
  )
  t.regex(remedy, /\/run\/vmclock\/page/)
})

test('a device that is missing from the container costs the bound, and says how to pass it', async (t) => {
  const published = publishing(t)
  const by = machine(t, { published, isDeviceHidden: true })
  if (by === undefined) return
  const seen = await look(by)
  t.like(seen, { kind: 'published', time: true, maxErrorNs: null, reason: 'unguarded' })
  t.is(seen.guard.state, 'unavailable')
  t.regex(`${seen.guard.reason} ${seen.guard.remedy}`, /\/dev\/vmclock0.*--device/)
  const allowed = await look(by, { allowUnguarded: true })
  t.true(BigInt(allowed.maxErrorNs ?? 0) >= 1_000_000n)
  t.deepEqual(allowed.assumed, [...seen.assumed, { part: 'guard', by: 'caller' }])
  // The same page on a machine without a device has its bound.
  const elsewhere = await look(machine(t, { published }) ?? [])
  t.like(elsewhere, { kind: 'published', guard: { state: 'none' }, reason: null })
  t.not(elsewhere.maxErrorNs, null)
})

test('a device that only root may read costs the bound, and names the udev rule', async (t) => {
  const device = page(t, MARKER_ONLY)
  chmodSync(device.path, 0)
  const by = machine(t, {
    device: device.path,
    published: publishing(t),
    isUnprivileged: true,
  })
  if (by === undefined) return
  const seen = await look(by)
  t.like(seen, { kind: 'published', time: true, maxErrorNs: null, reason: 'unguarded' })
  t.is(seen.guard.state, 'unavailable')
  t.regex(`${seen.guard.remedy}`, /udev|chmod/)
})

test('a page of an older publisher has no bound on a machine with a device', async (t) => {
  const by = machine(t, { isDeviceHidden: true })
  if (by === undefined) return
  const env = { VMCLOCK_PATH: page(t, liveFields(t)).path }
  t.like(await look(by, {}, env), { kind: 'path', maxErrorNs: null, reason: 'unguarded' })
  t.is((await look(by, { allowUnguarded: true }, env)).maxErrorNs, '1001')
})

test('a device stuck in an update costs the bound, not the time', async (t) => {
  const by = machine(t, { device: page(t, { ...MARKER_ONLY, seqCount: 5 }).path })
  if (by === undefined) return
  t.like(await look(by, {}), { kind: 'process', time: true, maxErrorNs: null })
})

test('a published page has no generation that nothing ever changes', async (t) => {
  const by = machine(t, { published: publishing(t) })
  if (by === undefined) return
  t.is((await look(by)).generation, null)
})

test('status and doctor say that clones are not noticed, and never claim a missing bound', async (t) => {
  const by = machine(t, {})
  if (by === undefined) return
  const boundless = made(t, { flags: 0n }, { noBound: { reason: 'started' } })
  const status = await run(['dist/cli.cjs', 'status', boundless], { by })
  t.is(status.exitCode, 0, status.stderr)
  t.regex(status.stdout, /^clones +are not noticed here/m)
  t.regex(status.stdout, /^migrations +are not noticed here/m)
  t.regex(status.stdout, /^bound +unknown/m)
  t.notRegex(status.stdout, /within its bound/)
  const doctor = await run(['dist/cli.cjs', 'doctor', boundless], { by })
  t.regex(doctor.stdout, /guard +.*no software on this machine can notice/)
  const bounded = await run(['dist/cli.cjs', 'status', made(t)], { by })
  t.regex(bounded.stdout, /within its bound/)
})

test('status says that the publisher of a page is dead', async (t) => {
  const fields = liveFields(t)
  const counterValue = BigInt.asUintN(64, (fields.counterValue ?? 0n) - 60_000_000_000n)
  const { stdout } = await run(['dist/cli.cjs', 'status', made(t, { counterValue })])
  t.regex(stdout, /^publisher +dead: it has not updated the page for \d/m)
  const ended = await run(['dist/cli.cjs', 'status', made(t, { clockStatus: 4 })])
  t.regex(ended.stdout, /^publisher +ended/m)
  const alive = await run(['dist/cli.cjs', 'status', publishing(t)])
  t.regex(alive.stdout, /^publisher +alive/m)
})
