// The metrics of a clock: what each figure says, and what is left out if nobody knows it.

import { readFileSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { VmClock, VmClockError } from 'vmclock'
import { ClockMetrics, type MetricFamily } from 'vmclock/metrics'
import { SimulatedClock } from 'vmclock/testing'
import { publishWith } from './extension'
import { rootDirectory } from './node-command'
import { FLAG, frozenFields, liveFields, open, page, refuses } from './pages'

const LARGEST_NS = 2n ** 63n - 1n

/** Returns the value of each sample by its name and labels. */
function valuesOf(metrics: ClockMetrics): Record<string, string> {
  return Object.fromEntries(
    metrics
      .text()
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line) => [line.slice(0, line.lastIndexOf(' ')), line.slice(line.lastIndexOf(' ') + 1)]),
  )
}

test('a bound has all its nanoseconds, and the greatest one is infinite', (t) => {
  for (const [maxErrorNs, shown] of [
    [0n, '0.000000000'],
    [1n, '0.000000001'],
    // The nearest double of this quotient is smaller.
    [9_007_199_254_740_993n, '9007199.254740993'],
    [LARGEST_NS, '+Inf'],
  ] as const) {
    const values = valuesOf(new ClockMetrics(new SimulatedClock({ maxErrorNs })))
    t.is(values['vmclock_max_error_seconds'], shown)
    t.is(values['vmclock_has_bound'], '1')
  }
})

test('a time without a bound gives no figure of it, and the reason', (t) => {
  const made = page(t, liveFields(t))
  const metrics = new ClockMetrics(open(t, made.path))
  t.true('vmclock_max_error_seconds' in valuesOf(metrics))
  const fields = { ...liveFields(t), flags: 0n }
  for (const [noBound, reason, left] of [
    [{ reason: 'stepped', updatesLeft: 12 }, 'stepped', '12'],
    [{ reason: 'unguarded' }, 'unguarded', undefined],
    [{ reason: 'unrecognized (200)', updatesLeft: 3 }, 'unrecognized', '3'],
  ] as const) {
    publishWith(made, fields, { noBound })
    const values = valuesOf(metrics)
    t.is(values['vmclock_has_time'], '1')
    t.is(values['vmclock_has_bound'], '0')
    t.is(values[`vmclock_no_bound_info{reason="${reason}"}`], '1')
    t.is(values['vmclock_bound_updates_left'], left)
    t.false('vmclock_max_error_seconds' in values)
    t.false('vmclock_system_offset_max_error_seconds' in values)
  }
  const other = page(t, { ...liveFields(t), flags: 0n })
  const unstated = valuesOf(new ClockMetrics(open(t, other.path)))
  t.is(unstated['vmclock_no_bound_info{reason="unstated"}'], '1')
})

test('a page without time gives no figure of time, and the code of the error', (t) => {
  const flags = FLAG.DISRUPTION_SOON
  const values = valuesOf(new ClockMetrics(open(t, page(t, { flags }).path)))
  t.like(values, {
    vmclock_up: '1',
    vmclock_has_time: '0',
    vmclock_has_bound: '0',
    'vmclock_no_time_info{code="ERR_VMCLOCK_NO_TIME"}': '1',
    vmclock_disruption_soon: '1',
    vmclock_disruption_imminent: '0',
  })
  const ofTime = /max_error|est_error|age|synchronized$|offset|publisher/
  t.deepEqual(
    Object.keys(values).filter((name) => ofTime.test(name)),
    ['vmclock_system_clock_synchronized'],
  )
})

test('a clock that cannot be read gives counters, and no figure of the page', (t) => {
  const clock = open(t, page(t, liveFields(t)).path)
  const gone = new VmClockError('ERR_VMCLOCK_NOT_FOUND', 'there is no page')
  const closed = new ClockMetrics(clock)
  clock.close()
  const missing = new ClockMetrics(() => {
    throw gone
  })
  for (const [metrics, code] of [
    [closed, 'ERR_VMCLOCK_CLOSED'],
    [missing, 'ERR_VMCLOCK_NOT_FOUND'],
  ] as const) {
    t.deepEqual(valuesOf(metrics), {
      vmclock_up: '0',
      vmclock_has_time: '0',
      vmclock_has_bound: '0',
      [`vmclock_no_time_info{code="${code}"}`]: '1',
      vmclock_disruptions_total: '0',
      vmclock_generation_changes_total: '0',
    })
  }
})

test('each collection reads the clock anew', (t) => {
  const clock = new SimulatedClock({ maxErrorNs: 5n })
  const metrics = new ClockMetrics(clock)
  t.is(valuesOf(metrics)['vmclock_max_error_seconds'], '0.000000005')
  clock.widen(7n)
  t.is(valuesOf(metrics)['vmclock_max_error_seconds'], '0.000000007')
  clock.loseBound()
  t.false('vmclock_max_error_seconds' in valuesOf(metrics))
  clock.fail('ERR_VMCLOCK_TIMEOUT')
  t.is(valuesOf(metrics)['vmclock_no_time_info{code="ERR_VMCLOCK_TIMEOUT"}'], '1')
})

test('counts the disruptions and generation changes that came between two collections', (t) => {
  const flags = FLAG.VM_GEN_COUNTER_PRESENT
  const made = page(t, { flags, disruptionMarker: 1n, vmGenerationCounter: 1n })
  const metrics = new ClockMetrics(open(t, made.path))
  const counts = (): unknown[] => {
    const values = valuesOf(metrics)
    return [values['vmclock_disruptions_total'], values['vmclock_generation_changes_total']]
  }
  t.deepEqual(counts(), ['0', '0'])
  // A double cannot tell these two markers apart.
  made.write({ disruptionMarker: 2n ** 63n })
  t.deepEqual(counts(), ['1', '0'])
  made.write({ disruptionMarker: 2n ** 63n + 1n })
  t.deepEqual(counts(), ['2', '0'])
  t.deepEqual(counts(), ['2', '0'])
  made.write({ disruptionMarker: 5n, vmGenerationCounter: 2n })
  t.deepEqual(counts(), ['3', '1'])
  // The page has no generation for a while. That is no restore.
  made.write({ flags: 0n })
  t.deepEqual(counts(), ['3', '1'])
  made.write({ flags })
  t.deepEqual(counts(), ['3', '1'])
})

test('a disruption before the first collection counts, and another clock is none', (t) => {
  const clock = new SimulatedClock()
  const other = new SimulatedClock()
  for (let times = 0; times < 7; times++) other.disrupt()
  const clocks = [clock, clock, other]
  const metrics = new ClockMetrics(() => clocks.shift() ?? clock)
  clock.disrupt()
  t.is(valuesOf(metrics)['vmclock_disruptions_total'], '1')
  t.is(valuesOf(metrics)['vmclock_disruptions_total'], '1')
})

test('tells a publisher that is alive from one that is not', (t) => {
  const made = page(t, liveFields(t))
  const metrics = new ClockMetrics(open(t, made.path))
  t.false('vmclock_publisher_alive' in valuesOf(metrics))
  publishWith(made, liveFields(t))
  t.is(valuesOf(metrics)['vmclock_publisher_alive'], '1')
  // At 1 GHz its reference is 4 s old.
  const { counterValue } = liveFields(t)
  publishWith(made, { counterValue: counterValue - 4_000_000_000n })
  const dead = valuesOf(metrics)
  t.is(dead['vmclock_publisher_alive'], '0')
  t.true(Number(dead['vmclock_age_seconds']) >= 4)
  publishWith(made, { clockStatus: 4 })
  t.is(valuesOf(metrics)['vmclock_publisher_alive'], '0')
})

test('gives the offset of the system clock with its bound, negative too', (t) => {
  const fields = { ...frozenFields(), timeMaxerrorNanosec: 250_000_000n }
  for (const [timeSec, sign] of [
    [0n, 1],
    [5_000_000_000n, -1],
  ] as const) {
    const values = valuesOf(new ClockMetrics(open(t, page(t, { ...fields, timeSec }).path)))
    const offset = Number(values['vmclock_system_offset_seconds'])
    t.is(Math.sign(offset), sign)
    t.true(Math.abs(Date.now() / 1000 - Number(timeSec) - offset) < 60)
    t.regex(values['vmclock_system_offset_max_error_seconds'] ?? '', /^0\.25/)
  }
})

test('a page that is not in UTC has a bound, and no offset of the system clock', (t) => {
  const { path } = page(t, { ...liveFields(t), timeType: 1 })
  const values = valuesOf(new ClockMetrics(open(t, path, { timescale: 'page' })))
  t.is(values['vmclock_has_bound'], '1')
  t.false('vmclock_system_offset_seconds' in values)
})

test('every label has a small set of values, and every metric a type and a text', (t) => {
  const families = new ClockMetrics(open(t, page(t, liveFields(t)).path)).collect()
  const labels = families.flatMap(({ samples }) =>
    samples.flatMap((one) => Object.keys(one.labels)),
  )
  t.deepEqual([...new Set(labels)].sort(), ['from', 'guard', 'kind'])
  for (const { name, type, help } of families) {
    t.regex(name, type === 'counter' ? /^vmclock_\w+_total$/ : /^vmclock_\w+(?<!_total)$/)
    t.regex(help, /^[A-Z0-9].*\.$/)
  }
})

test('the names of all metrics are unique, and the text keeps their order', (t) => {
  const metrics = new ClockMetrics(open(t, page(t, liveFields(t)).path))
  const names = metrics.collect().map(({ name }) => name)
  t.is(new Set(names).size, names.length)
  const inText = [...metrics.text().matchAll(/^# TYPE (\w+) (?:gauge|counter)$/gm)].map(
    ([, name]) => name,
  )
  t.deepEqual(
    inText,
    metrics
      .collect()
      .flatMap(({ name, samples }: MetricFamily) => (samples.length > 0 ? name : [])),
  )
  t.regex(metrics.text(), /\n$/)
})

test('text of a clock of another maker cannot leave its label', (t) => {
  const clock = new SimulatedClock()
  const from = 'a"} 1\nvmclock_up 7\\' as never
  const timeSource = { ...clock.timeSource, from }
  const metrics = new ClockMetrics({
    timeSource,
    tryRead: () => clock.read(),
    continuityToken: () => clock.continuityToken(),
  })
  t.true(metrics.text().includes('from="a\\"} 1\\nvmclock_up 7\\\\"'))
  t.deepEqual(metrics.text().match(/^vmclock_up .*$/gm), ['vmclock_up 1'])
})

test('refuses what is no clock, and a call without its object', (t) => {
  for (const wrong of [undefined, null, 1, 'page', {}, []]) {
    refuses(t, () => new ClockMetrics(wrong as never), 'ERR_VMCLOCK_INVALID_ARGUMENT', /clock/)
  }
  const { text } = new ClockMetrics(new SimulatedClock())
  refuses(t, () => text(), 'ERR_VMCLOCK_INVALID_ARGUMENT', /without its object/)
})

test('an error that is not of this package leaves the collection', (t) => {
  const metrics = new ClockMetrics(new SimulatedClock())
  t.truthy(metrics.text())
  t.throws(
    () =>
      new ClockMetrics(() => {
        throw new TypeError('a mistake')
      }),
    { instanceOf: TypeError },
  )
})

test('gives metrics of a clock that reads no page', (t) => {
  const clock = new SimulatedClock()
  clock.loseBound()
  const values = valuesOf(new ClockMetrics(clock))
  t.is(values['vmclock_no_bound_info{reason="unstated"}'], '1')
  t.is(values['vmclock_source_info{kind="simulated",from="unknown",guard="device"}'], '1')
  t.is(values['vmclock_up'], '1')
  t.false('vmclock_system_offset_seconds' in values)
})

test('docs/metrics.md lists every metric with its type, and no other', (t) => {
  const text = readFileSync(join(rootDirectory, 'docs/metrics.md'), 'utf8')
  const listed = [...text.matchAll(/^\| `(vmclock_\w+)(?:\{[^}]*\})?` \| (\w+) \|/gm)]
  t.deepEqual(
    listed.map(([, name, type]) => `${name} ${type}`).sort(),
    new ClockMetrics(new SimulatedClock())
      .collect()
      .map(({ name, type }) => `${name} ${type}`)
      .sort(),
  )
})

test('a page at the path of a removed one is another clock', (t) => {
  const first = page(t, { ...liveFields(t), disruptionMarker: 1n })
  let clock = VmClock.open(first.path)
  t.teardown(() => clock.close())
  const metrics = new ClockMetrics(() => clock)
  renameSync(page(t, { ...liveFields(t), disruptionMarker: 2n }).path, first.path)
  clock.close()
  clock = VmClock.open(first.path)
  t.is(valuesOf(metrics)['vmclock_disruptions_total'], '0')
})
