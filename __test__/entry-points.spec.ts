// Every entry point loads by import and by require, and all of them share one set of classes.

import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import test from 'ava'
import * as vmclock from 'vmclock'
import * as clones from 'vmclock/clones'
import * as protect from 'vmclock/clones/protect'
import * as doctor from 'vmclock/doctor'
import * as effect from 'vmclock/effect'
import * as metrics from 'vmclock/metrics'
import * as opentelemetry from 'vmclock/opentelemetry'
import * as register from 'vmclock/opentelemetry/register'
import * as ordering from 'vmclock/ordering'
import * as pino from 'vmclock/pino'
import * as ptp from 'vmclock/ptp'
import * as testing from 'vmclock/testing'
import { evaluate, rootDirectory } from './node-command'
import { newPath } from './pages'

const require = createRequire(import.meta.url)

const entryPoints: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  vmclock,
  'vmclock/ptp': ptp,
  'vmclock/doctor': doctor,
  'vmclock/ordering': ordering,
  'vmclock/metrics': metrics,
  'vmclock/testing': testing,
  'vmclock/clones': clones,
  'vmclock/clones/protect': protect,
  'vmclock/opentelemetry': opentelemetry,
  'vmclock/opentelemetry/register': register,
  'vmclock/effect': effect,
  'vmclock/pino': pino,
}

test('the tests cover every entry point of the package', (t) => {
  const manifest = JSON.parse(readFileSync(join(rootDirectory, 'package.json'), 'utf8')) as {
    readonly exports: object
  }
  const subpaths = Object.keys(manifest.exports).filter((subpath) => subpath !== './package.json')
  t.deepEqual(
    subpaths.map((subpath) => subpath.replace(/^\./, 'vmclock')),
    Object.keys(entryPoints),
  )
})

test('the entry points beside vmclock export what is documented', (t) => {
  t.deepEqual(Object.keys(ptp), ['PtpClock'])
  t.deepEqual(Object.keys(doctor), ['diagnose'])
  t.deepEqual(Object.keys(ordering), [
    'CLOCK_TIMER',
    'HybridClock',
    'compareHybrid',
    'compareIntervals',
    'decodeHybrid',
    'decodeInterval',
    'encodeHybrid',
    'encodeInterval',
    'isFuture',
    'isPast',
    'waitUntilPast',
    'waitUntilSynchronized',
  ])
  t.deepEqual(Object.keys(metrics), ['ClockMetrics'])
  t.deepEqual(Object.keys(testing), [
    'PAGE_FLAGS',
    'SimulatedClock',
    'SimulatedFleet',
    'SimulatedTime',
    'VmClockPage',
    'fieldsOf',
  ])
  t.deepEqual(Object.keys(opentelemetry), [
    'registerVmClock',
    'vmclockMetrics',
    'vmclockResourceAttributes',
    'vmclockTracerProvider',
  ])
  t.deepEqual(Object.keys(register), ['clock'])
  t.deepEqual(Object.keys(effect), ['vmclockLayer'])
  t.deepEqual(Object.keys(pino), ['vmclockTime'])
  t.deepEqual(Object.keys(protect), ['protection'])
  t.deepEqual(Object.keys(clones), [
    'drain',
    'notifyRestored',
    'onRestore',
    'perMachine',
    'protectRandomness',
    'restoreSignal',
    'uuidV7Source',
  ])
})

for (const [name, imported] of Object.entries(entryPoints)) {
  test(`${name}: import and require give the same values`, (t) => {
    const required = require(name) as Record<string, unknown>
    t.deepEqual(Object.keys(required).sort(), Object.keys(imported).sort())
    for (const [key, value] of Object.entries(imported)) t.is(required[key], value, key)
  })
}

test('an error of any entry point is an instance of the VmClockError of vmclock', (t) => {
  const errors = [
    t.throws(() => ptp.PtpClock.find('')),
    t.throws(() => doctor.diagnose({ path: '' })),
    t.throws(() => testing.VmClockPage.open(newPath(t))),
  ]
  for (const error of errors) {
    // isVmClockError and instanceof also accept another copy of the class, so ask for the very class.
    t.is(error?.constructor, vmclock.VmClockError)
  }
})

test('vmclock loads no other entry point', async (t) => {
  const loaded = await evaluate<string[]>(`
    require('vmclock')
    const { basename } = require('node:path')
    const files = Object.keys(require.cache).filter((file) => file.includes('/dist/'))
    console.log(JSON.stringify(files.map((file) => basename(file)).sort()))`)
  t.deepEqual(loaded, ['index.cjs', 'shared.cjs'])
})
