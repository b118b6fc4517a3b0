// PtpClock refuses other files by their kind, and leaves nothing open. The guests have real PTP clocks
// (rig/tests/ptp.mjs).

import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import test from 'ava'
import type { VmClockErrorCode } from 'vmclock'
import { PtpClock } from 'vmclock/ptp'
import { quality } from '../ts/cli/ptp'
import { commandLine, evaluate, type Outcome, rootDirectory, run } from './node-command'
import { held, newDirectory, refuses } from './pages'

// The characters that must never reach a terminal (ts/cli/escape.ts), except newline.
const UNSAFE =
  /(?!\n)[\p{Cc}\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]|\p{Cs}/u

const ptp = (...words: string[]): Promise<Outcome> => run([commandLine, 'ptp', ...words])

test('open refuses other files and names their kind', async (t) => {
  const made = newDirectory(t)
  const file = join(made, 'file')
  writeFileSync(file, 'no clock')
  const socket = join(made, 'socket')
  const server = createServer()
  await new Promise<void>((resolve) => {
    server.listen(socket, resolve)
  })
  t.teardown(() => server.close())
  for (const [path, kind] of [
    ['/dev/null', 'another device'],
    ['/dev/urandom', 'another device'],
    [file, 'a file'],
    [made, 'a directory'],
    [socket, 'a socket'],
  ] as const) {
    const remedy = new RegExp(`this is ${kind}.*such as /dev/ptp0`)
    const error = refuses(t, () => PtpClock.open(path), 'ERR_VMCLOCK_NOT_PTP', remedy)
    t.is(error.path, path)
    if (path.startsWith(made)) t.deepEqual(held(path), [])
  }
  for (const path of [join(made, 'none'), join(file, 'beneath')]) {
    const remedy = /no such device.*\/sys\/class\/ptp/
    const error = refuses(t, () => PtpClock.open(path), 'ERR_VMCLOCK_NOT_FOUND', remedy)
    t.is(error.path, path)
  }
})

test('find of an unknown name fails, and the message lists the names that exist', (t) => {
  const name = 'none \u001b[31m\u202e of these'
  const error = refuses(
    t,
    () => PtpClock.find(name),
    'ERR_VMCLOCK_NOT_FOUND',
    /no PTP clock is called.*vmclock status/,
  )
  t.notRegex(error.message, UNSAFE)
  for (const { name: other } of PtpClock.list()) t.true(error.message.includes(other))
})

test('list gives the clocks of sysfs', (t) => {
  const sysfsClass = '/sys/class/ptp'
  const devices = existsSync(sysfsClass) ? readdirSync(sysfsClass) : []
  t.deepEqual(
    PtpClock.list().sort((one, other) => (one.path < other.path ? -1 : 1)),
    devices.sort().map((device) => ({
      path: `/dev/${device}`,
      name: readFileSync(join(sysfsClass, device, 'clock_name'), 'utf8').trimEnd(),
    })),
  )
})

test('open and find refuse arguments of the wrong type', (t) => {
  const code: VmClockErrorCode = 'ERR_VMCLOCK_INVALID_ARGUMENT'
  for (const value of [undefined, null, 3, '', {}, ['/dev/ptp0'], '/dev/ptp0\0']) {
    refuses(
      t,
      () => PtpClock.open(value as string),
      code,
      /path (must be a string|is empty|holds a)/,
    )
  }
  for (const value of [undefined, null, 3, '', {}, ['vmclock0']]) {
    refuses(t, () => PtpClock.find(value as string), code, /clockName must be a string/)
  }
  refuses(
    t,
    () => new (PtpClock as unknown as new () => unknown)(),
    code,
    /no public constructor use PtpClock\.open/,
  )
})

test('on an unsupported system list is empty, and open fails with a code', async (t) => {
  const seen = await evaluate<{ list: unknown; codes: string[] }>(`
    Object.defineProperty(process, 'platform', { value: 'darwin' })
    const { PtpClock } = require(${JSON.stringify(join(rootDirectory, 'dist/ptp.cjs'))})
    const codes = [() => PtpClock.open('/dev/ptp0'), () => PtpClock.find('vmclock0')].map((call) => {
      try { call() } catch (error) { return error.code }
    })
    console.log(JSON.stringify({ list: PtpClock.list(), codes }))`)
  t.deepEqual(seen, { list: [], codes: Array(2).fill('ERR_VMCLOCK_UNSUPPORTED') })
})

test('vmclock ptp: help, usage, and refusals with their codes', async (t) => {
  const help = await ptp('--help')
  t.is(help.exitCode, 0)
  for (const words of [/--json/, /--samples <count>/, /--clock <clock>/, /Exit codes:/]) {
    t.regex(help.stdout, words)
  }
  for (const words of [
    ['--samples', '0'],
    ['--samples', '26'],
    ['--clock', 'tai'],
    ['a', 'b'],
  ]) {
    t.is((await ptp(...words)).exitCode, 2)
  }
  for (const [clock, code] of [
    ['/dev/null', 'ERR_VMCLOCK_NOT_PTP'],
    ['/none \u001b[2J\u202e', 'ERR_VMCLOCK_NOT_FOUND'],
    ['none \u001b[2J\u202e', 'ERR_VMCLOCK_NOT_FOUND'],
  ] as const) {
    const inWords = await ptp(clock)
    t.is(inWords.exitCode, 1)
    t.is(inWords.stdout, '')
    t.true(inWords.stderr.includes(code))
    const inJson = await ptp(clock, '--json')
    t.is(inJson.exitCode, 1)
    t.is((JSON.parse(inJson.stderr) as { error: { code: string } }).error.code, code)
    t.notRegex(inWords.stderr + inJson.stderr, UNSAFE)
  }
})

test('vmclock ptp shows the attributes that a driver states, and an unknown bound as unknown', (t) => {
  t.is(quality(undefined), '')
  const stated = { errorBoundNs: 25_000n, timescale: 'utc', status: 'synchronized' } as const
  t.is(quality(stated), '; clock ± 25.00 µs, in utc, synchronized')
  const none = { errorBoundNs: undefined, timescale: undefined, status: undefined }
  t.is(quality(none), '; error bound unknown')
})

test('vmclock ptp accepts the auxiliary clocks, and no others', async (t) => {
  for (const clock of ['aux0', 'aux7']) t.is((await ptp('--clock', clock, '/dev/null')).exitCode, 1)
  t.is((await ptp('--clock', 'aux8', '/dev/null')).exitCode, 2)
})
