// The JSON output of every command matches docs/json.schema.json, and the schema allows nothing else.
// The examples of docs/json.md match it too. `vmclock ptp` is tested in the guests (rig/tests/ptp.mjs).

import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Ajv2020 } from 'ajv/dist/2020'
import test, { type ExecutionContext } from 'ava'
import { VmClock } from 'vmclock'
import type { PageFields } from 'vmclock/testing'
import { json } from '../ts/cli/escape'
import { PublisherBound } from '../ts/cli/publisher-bound'
import { PublisherSource } from '../ts/cli/publisher-source'
import { publishWith, stateNoBound, writeExtension } from './extension'
import { commandLine, type Outcome, type Running, rootDirectory, run, start } from './node-command'
import { FLAG, liveFields, newDirectory, newPath, page } from './pages'
import { diagnoseStaged, NO_DEVICE } from './staged-machine'

interface Schema {
  readonly $ref?: string
  readonly $defs?: Readonly<Record<string, Schema>>
  readonly properties?: Readonly<Record<string, Schema>>
  readonly items?: Schema
  readonly oneOf?: readonly Schema[]
  readonly anyOf?: readonly Schema[]
}

const schema = JSON.parse(
  readFileSync(join(rootDirectory, 'docs/json.schema.json'), 'utf8'),
) as Schema & { $defs: Record<string, Schema> }

const ajv = new Ajv2020({ strict: true, strictRequired: false, allErrors: true })
ajv.addSchema(schema, 'schema')

// The properties of all output so far, as `definition.property…`.
const seen = new Set<string>()

// All output so far of each definition, without its figures.
const printedOf = new Map<string, Set<string>>()

// They depend on this machine. Other tests look at them.
const OF_THE_MACHINE = ['timeSource', 'cloneProtection']

/** Returns a value without its figures, paths and facts of the machine, as text. */
function masked(value: unknown): string {
  return JSON.stringify(value, (name, inner: unknown) => {
    if (OF_THE_MACHINE.includes(name)) return {}
    // The examples of events leave it out.
    if (name === 'reading') return undefined
    if (typeof inner === 'number') return 0
    if (typeof inner !== 'string') return inner
    return inner.replaceAll(/(?<!\w)[.]?\/[\w./-]+/g, '/path').replaceAll(/\d+/g, '0')
  })
}

/** Asserts that a value matches the definition. */
function fits(t: ExecutionContext, name: string, value: unknown): void {
  const validate = ajv.getSchema(`schema#/$defs/${name}`)
  if (validate === undefined) throw new Error(`no definition of ${name}`)
  t.true(validate(value), `${name}: ${JSON.stringify(value)}: ${ajv.errorsText(validate.errors)}`)
  note(name, value)
  const all = printedOf.get(name) ?? new Set()
  printedOf.set(name, all)
  for (const part of partsOf(value)) all.add(masked(part))
}

/** Returns a value; of a value with many metrics, each for itself, because an example shows only one. */
function partsOf(value: unknown): unknown[] {
  const { metrics } = value as { metrics?: unknown[] }
  return metrics === undefined ? [value] : metrics.map((metric) => ({ metrics: [metric] }))
}

function note(place: string, value: unknown): void {
  if (Array.isArray(value)) for (const item of value) note(place, item)
  else if (typeof value === 'object' && value !== null) {
    for (const [name, inner] of Object.entries(value)) {
      seen.add(`${place}.${name}`)
      note(`${place}.${name}`, inner)
      if (name === 'timeSource') note(name, inner)
    }
  }
}

/** Returns all properties that a definition allows, as `definition.property…`. */
function allowed(place: string, { $ref, properties, items, oneOf, anyOf }: Schema): string[] {
  const named = $ref === undefined ? undefined : schema.$defs[$ref.replace('#/$defs/', '')]
  return [
    ...(named === undefined ? [] : allowed(place, named)),
    ...(items === undefined ? [] : allowed(place, items)),
    ...[...(oneOf ?? []), ...(anyOf ?? [])].flatMap((inner) => allowed(place, inner)),
    ...Object.entries(properties ?? {}).flatMap(([name, inner]) => [
      `${place}.${name}`,
      ...allowed(`${place}.${name}`, inner),
    ]),
  ]
}

const vmclock = (...words: string[]): Promise<Outcome> => run([commandLine, ...words, '--json'])

function values(text: string): unknown[] {
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown)
}

function eventOf(text: string): unknown {
  return (JSON.parse(text) as { event?: unknown }).event
}

function startCommand(t: ExecutionContext, ...words: string[]): Running {
  const running = start([commandLine, ...words, '--json'])
  t.teardown(() => running.child.kill('SIGKILL'))
  return running
}

/** The fields of a page that states everything. */
function fullFields(t: ExecutionContext): PageFields {
  const fields = liveFields(t)
  return {
    ...fields,
    flags:
      fields.flags |
      FLAG.TAI_OFFSET_VALID |
      FLAG.TIME_ESTERROR_VALID |
      FLAG.PERIOD_ESTERROR_VALID |
      FLAG.VM_GEN_COUNTER_PRESENT,
    taiOffsetSec: 37,
    timeEsterrorNanosec: 10n,
    vmGenerationCounter: 2n ** 64n - 1n,
  }
}

test.serial('now matches the schema', async (t) => {
  const { path } = page(t, { ...fullFields(t), flags: FLAG.TAI_OFFSET_VALID })
  stateNoBound(path, { reason: 'stepped', updatesLeft: 12 })
  const unbounded = JSON.parse((await vmclock('now', path)).stdout)
  fits(t, 'now', unbounded)
  fits(t, 'boundUnavailable', unbounded.boundUnavailable)
  const simple = liveFields(t)
  const generation = FLAG.TAI_OFFSET_VALID | FLAG.VM_GEN_COUNTER_PRESENT
  const flags = simple.flags | generation
  const { path: simplest } = page(t, { ...simple, flags, taiOffsetSec: 37 })
  fits(t, 'now', JSON.parse((await vmclock('now', simplest)).stdout))
  const bounded = page(t, liveFields(t)).path
  for (const probed of [bounded, page(t, fullFields(t)).path]) {
    fits(t, 'probe', JSON.parse((await vmclock('check', probed)).stdout))
  }
  for (const fields of [fullFields(t), { ...liveFields(t), flags: 0n }]) {
    const { path } = page(t, fields)
    for (const timescale of ['utc', 'tai']) {
      const { stdout, stderr } = await vmclock('now', path, '--timescale', timescale)
      if (stdout === '') fits(t, 'error', JSON.parse(stderr))
      else fits(t, 'now', JSON.parse(stdout))
    }
  }
})

test.serial(
  'status matches the schema, also for short pages and unrecognized values',
  async (t) => {
    for (const fields of [
      fullFields(t),
      { disruptionMarker: 1n },
      { ...liveFields(t), size: 0x20 },
      { ...liveFields(t), counterId: 9, timeType: 9, clockStatus: 9, leapIndicator: 99 },
      { ...liveFields(t), leapSecondSmearingHint: 9 },
    ]) {
      fits(t, 'status', JSON.parse((await vmclock('status', page(t, fields).path)).stdout))
    }
    const { path } = page(t, { ...fullFields(t), flags: FLAG.TAI_OFFSET_VALID })
    for (const reason of ['stepped', 'unrecognized (200)'] as const) {
      stateNoBound(path, { reason, updatesLeft: 12 })
      fits(t, 'status', JSON.parse((await vmclock('status', path)).stdout))
    }
    const { stdout } = await run([commandLine, 'status', '--json'], {
      env: { VMCLOCK_PATH: page(t, fullFields(t)).path },
    })
    fits(t, 'status', JSON.parse(stdout))
  },
)

test.serial('a page of this package, and this process’s own, match the schema', async (t) => {
  const { path } = page(t, fullFields(t))
  for (const deviceUnavailable of [false, true]) {
    writeExtension(path, { deviceUnavailable, beganNs: 1_767_225_600_123_456_789n })
    fits(t, 'status', JSON.parse((await vmclock('status', path)).stdout))
    fits(t, 'now', JSON.parse((await vmclock('now', path, '--allow-unguarded')).stdout))
  }
  for (const command of ['status', 'now']) {
    const words = [command, '--source', 'process', '--allow-untrusted-counter']
    fits(t, command, JSON.parse((await vmclock(...words)).stdout))
  }
  // No device guards a page here, so the test makes the line.
  const guarded = { state: 'guarded', path: '/dev/vmclock0' }
  const source = {
    kind: 'published',
    path,
    from: 'kernel',
    guard: guarded,
    generation: 'synchronous',
    assumed: [],
  }
  const printed = json({ event: 'begin', path, timeSource: source, seenMs: 0 })
  fits(t, 'watch', JSON.parse(printed))
  fits(t, 'timeSource', source)
})

test.serial('every event of watch matches the schema', async (t) => {
  const made = page(t, fullFields(t))
  const watching = startCommand(t, 'watch', made.path, '--interval', '1ms')
  const until = async (fitting: (text: string) => boolean): Promise<void> => {
    fits(
      t,
      'watch',
      JSON.parse(
        await watching.lineThat((text) => {
          fits(t, 'watch', JSON.parse(text))
          return fitting(text)
        }),
      ),
    )
  }
  const printed = (event: string): Promise<void> => until((text) => eventOf(text) === event)
  await printed('stamp')
  made.write({ disruptionMarker: 5n })
  await printed('disruption')
  made.write({ vmGenerationCounter: 5n })
  await printed('generation')
  made.write({ flags: FLAG.DISRUPTION_SOON })
  await printed('maintenance')
  // In one update: the watcher has read the page's present state already.
  publishWith(made, {}, { noBound: { reason: 'stepped', updatesLeft: 12 } })
  await until((text) => text.includes('boundUnavailable'))
  made.write({ leapIndicator: 1 })
  await printed('leap')
  made.write({ clockStatus: 4 })
  await printed('status')
  await until((text) => text.includes('noTime'))
  made.begin()
  await printed('error')
  made.write({ clockStatus: 2 })
  await printed('status')
  publishWith(made, {})
  await printed('freshness')
  renameSync(page(t, {}).path, made.path)
  await printed('replaced')
  watching.child.kill('SIGTERM')
  t.is((await watching.outcome).exitCode, 0)
})

test.serial('the events of a page without time match the schema', async (t) => {
  const made = page(t, { disruptionMarker: 1n })
  publishWith(made, {})
  const watching = startCommand(t, 'watch', made.path, '--interval', '1ms')
  const printed = async (event: string): Promise<void> => {
    for (;;) {
      const text = await watching.line()
      fits(t, 'watch', JSON.parse(text))
      if (eventOf(text) === event) return
    }
  }
  await printed('stamp')
  publishWith(made, { disruptionMarker: 2n })
  await printed('disruption')
  publishWith(made, { flags: FLAG.DISRUPTION_SOON })
  await printed('maintenance')
  watching.child.kill('SIGTERM')
  t.is((await watching.outcome).exitCode, 0)
})

test.serial('metrics match the schema: printed, in a file, and served', async (t) => {
  const { path } = page(t, { ...fullFields(t), flags: FLAG.TAI_OFFSET_VALID })
  stateNoBound(path, { reason: 'stepped', updatesLeft: 12 })
  for (const named of [path, page(t, fullFields(t)).path, newPath(t)]) {
    fits(t, 'metrics', JSON.parse((await vmclock('metrics', named)).stdout))
  }
  const file = newPath(t)
  fits(t, 'metrics', JSON.parse((await vmclock('metrics', path, '--file', file)).stdout))
  for (const words of [
    ['--file', file, '--interval', '1h'],
    ['--listen', '0'],
  ]) {
    const running = startCommand(t, 'metrics', path, ...words)
    fits(t, 'metrics', JSON.parse(await running.line()))
    running.child.kill('SIGTERM')
    t.is((await running.outcome).exitCode, 0)
  }
})

test.serial('every answer of publish matches the schema', async (t) => {
  const path = newPath(t)
  const publishing = startCommand(
    t,
    'publish',
    path,
    '--generation',
    'yes',
    '--from',
    'kernel',
    '--max-error',
    '5ms',
    '--allow-untrusted-counter',
  )
  fits(t, 'publish', JSON.parse(await publishing.line()))
  const printed = async (event: string): Promise<void> => {
    const fitting = (text: string): boolean => {
      fits(t, 'publish', JSON.parse(text))
      return eventOf(text) === event
    }
    await publishing.lineThat(fitting)
  }
  // The first: a disruption voids the stated error.
  for (const [line, event] of [
    ['status', 'status'],
    ['disrupt', 'disrupted'],
    ['generation', 'generation-changed'],
    ['maintenance soon', 'maintenance'],
  ] as const) {
    publishing.child.stdin.write(`${line}\n`)
    await printed(event)
  }
  publishing.child.stdin.write('no such thing\n')
  fits(t, 'error', JSON.parse(await publishing.errorLine()))
  fits(t, 'error', JSON.parse((await vmclock('publish', path, '--allow-untrusted-counter')).stderr))
  publishing.child.stdin.write('quit\n')
  await printed('stopped')
  t.is((await publishing.outcome).exitCode, 0)
})

// This machine's clock does not change as the test would need it, so the test makes the lines.
test.serial('the lines of publish about its bound and its source match the schema', (t) => {
  const bound = new PublisherBound({ reason: 'change-pending', updatesLeft: undefined })
  const kernel = { from: 'kernel', passedOver: [] } as const
  const reason = 'its daemon has not written it yet'
  const passedOver = [{ from: 'clockbound', code: 'ERR_VMCLOCK_NO_SOURCE', reason }] as const
  const source = new PublisherSource({ ...kernel, passedOver })
  const printed = (fields: Record<string, unknown>): unknown =>
    JSON.parse(json({ ...fields, ...source.fields(true), ...bound.fields(true) }))
  const guardUnavailable = { path: '/dev/vmclock0', reason: 'it is hidden', remedy: 'pass it' }
  fits(
    t,
    'publish',
    printed({ event: 'published', path: '/page', shape: 'time', guardUnavailable }),
  )
  for (const [updatesLeft, nowNs] of [
    [64, 0n],
    [63, 16n],
    [62, 32n],
  ] as const) {
    const event = bound.observe({ reason: 'stepped', updatesLeft }, nowNs)
    if (event !== undefined) fits(t, 'publish', JSON.parse(json({ event, ...bound.fields(true) })))
  }
  fits(t, 'publish', printed({ event: 'status', path: '/page', updates: 1n, cpuTimeNs: 1n }))
  fits(t, 'publish', { event: bound.observe(undefined, 48n) })
  t.false(source.observe(kernel))
  t.true(source.observe({ from: 'clockbound', passedOver: [] }))
  fits(t, 'publish', { event: 'source', ...source.fields(true) })
  t.true(source.observe({ ...kernel, passedOver }))
  fits(t, 'publish', { event: 'source', ...source.fields(true) })
})

test.serial('demo matches the schema', async (t) => {
  const { exitCode, stdout, stderr } = await vmclock('demo', '--seconds', '1')
  t.is(exitCode, 0, stderr)
  for (const value of values(stdout)) fits(t, 'demo', value)
})

test.serial('doctor and its udev rules match the schema', async (t) => {
  fits(t, 'doctor', JSON.parse((await vmclock('doctor', page(t, fullFields(t)).path)).stdout))
  const staged = diagnoseStaged(t, { files: NO_DEVICE, page: null })
  fits(t, 'doctor', JSON.parse(JSON.stringify(staged)))
  const discipline = () => ({
    unsynchronized: true,
    maxErrorUs: 16_000_000,
    estErrorUs: 16_000_000,
    taiMinusUtcSec: 0,
  })
  const undisciplined = diagnoseStaged(t, {
    files: { ...NO_DEVICE, '/proc/42/comm': undefined },
    page: null,
    facts: { discipline },
  })
  for (const check of undisciplined.checks) fits(t, 'check', JSON.parse(JSON.stringify(check)))
  fits(t, 'udevRule', JSON.parse((await vmclock('doctor', '--udev-rule')).stdout))
})

test.serial('errors of every kind match the schema', async (t) => {
  const path = newPath(t)
  writeFileSync(path, '')
  for (const [exitCode, ...words] of [
    [1, 'status', join(newDirectory(t), 'none')],
    [1, 'now', path],
    [1, 'now', page(t, { disruptionMarker: 1n }).path],
    [1, 'publish', join(path, 'below')],
    // An error of the system: a name of more than 255 bytes.
    [1, 'now', join(newDirectory(t), 'n'.repeat(300))],
    [1, 'ptp', '/dev/null'],
    [1, 'ptp', 'no such clock'],
    [2, 'now', '--nonsense'],
    [2, 'nonsense'],
  ] as const) {
    const outcome = await vmclock(...words)
    t.is(outcome.exitCode, exitCode, words.join(' '))
    fits(t, 'error', JSON.parse(outcome.stderr))
  }
  // The error of a missing native part has a cause.
  const { stderr } = await run([commandLine, 'now', '--json'], { env: { VMCLOCK_ADDON: path } })
  fits(t, 'error', JSON.parse(stderr))
})

// The tests before this one are serial, so they have run.
test.serial('the schema has no property that no command prints', (t) => {
  const commands = [
    'now',
    'probe',
    'status',
    'watch',
    'metrics',
    'publish',
    'demo',
    'doctor',
    'udevRule',
    'error',
  ]
  const never = commands
    .flatMap((name) => allowed(name, schema.$defs[name] as Schema))
    // Three commands print the same object.
    .map((name) => name.replace(/^\w+\.timeSource\./, 'timeSource.'))
    .filter((name) => !seen.has(name))
  // They depend on whether this machine's clock is synchronized.
  const either = ['demo.boundUnavailable', 'demo.reading', 'demo.systemOffsetMaxErrorNs']
  t.deepEqual(
    never.filter((name) => !either.some((start) => name.startsWith(start))),
    [],
  )
})

test('the schema refuses output that no command prints', (t) => {
  const { path } = page(t, fullFields(t))
  const clock = VmClock.open(path)
  const now: Record<string, unknown> = {
    path,
    ...clock.read().toJSON(),
    timeSource: JSON.parse(JSON.stringify(clock.timeSource)),
  }
  clock.close()
  const validate = ajv.getSchema('schema#/$defs/now')
  if (validate === undefined) throw new Error('no definition of now')
  t.true(validate(now))
  for (const other of [
    { ...now, more: 1 },
    { ...now, epochNs: 1 },
    { ...now, epochNs: '01' },
    { ...now, latestNs: undefined },
    { ...now, status: 'unreliable' },
  ]) {
    t.false(validate(JSON.parse(JSON.stringify(other))))
  }
})

test('every object of the schema is closed, except the details of a check', (t) => {
  const open: string[] = []
  const look = (place: string, value: unknown): void => {
    if (typeof value !== 'object' || value === null) return
    const { type, additionalProperties } = value as Record<string, unknown>
    if (type === 'object' && additionalProperties !== false) open.push(place)
    for (const [name, inner] of Object.entries(value)) look(`${place}/${name}`, inner)
  }
  look('', schema)
  t.deepEqual(open, ['/$defs/check/properties/details'])
})

// The tests before this one are serial, so they have run.
test.serial('every example of docs/json.md is what a command prints, with other figures', (t) => {
  const text = readFileSync(join(rootDirectory, 'docs/json.md'), 'utf8')
  const named: string[] = []
  const stale: string[] = []
  for (const { index, 1: block = '' } of text.matchAll(/^```json\n(.*?)^```$/gms)) {
    // The definition that was named last before the example.
    const name = [...text.slice(0, index).matchAll(/definition\s`(\w+)`/gi)].at(-1)?.[1] ?? ''
    named.push(name)
    const validate = ajv.getSchema(`schema#/$defs/${name}`)
    const shown =
      /^\{ .* \}$/m.test(block) && !block.startsWith('{\n') ? values(block) : [JSON.parse(block)]
    for (const value of shown) {
      t.true(validate?.(value), `${JSON.stringify(value)}: ${ajv.errorsText(validate?.errors)}`)
      // This machine has no such clock. The guests have, and their tests validate what they print.
      if (name === 'ptp') continue
      // The page is not always seen as stale and then as fresh again.
      if ('isStale' in value) continue
      // The remedy names a page that is published here.
      if ('noTime' in value && VmClock.list().length > 0) continue
      if (!printedOf.get(name)?.has(masked(value))) stale.push(masked(value))
    }
  }
  t.deepEqual(stale, [])
  t.deepEqual(named, [
    'error',
    'boundUnavailable',
    'now',
    'status',
    'watch',
    'metrics',
    'ptp',
    'check',
    'udevRule',
    'publish',
    'demo',
  ])
})
