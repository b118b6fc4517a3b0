// The package loads everywhere. If it cannot work, its calls say why.

import { execFileSync } from 'node:child_process'
import { chmodSync, cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import test, { type ExecutionContext } from 'ava'
import * as vmclock from 'vmclock'
import { evaluate, inOwnMounts, rootDirectory } from './node-command'
import { newDirectory, newPath } from './pages'

const require = createRequire(import.meta.url)

test('import and require give the same classes', (t) => {
  const required = require('vmclock') as Record<string, unknown>
  t.deepEqual(Object.keys(required).sort(), Object.keys(vmclock).sort())
  for (const [name, value] of Object.entries(vmclock)) t.is(required[name], value, name)
})

test('the exports are the documented ones', (t) => {
  t.deepEqual(Object.keys(vmclock).sort(), [
    'READING_KNOWN',
    'READING_SLOTS',
    'READING_SLOT_COUNT',
    'Reading',
    'TIMESCALES',
    'VmClock',
    'VmClockError',
    'VmClockPublisher',
    'VmClockWatcher',
    'formatNs',
    'tokenFromJSON',
  ])
})

test('classes have their names', (t) => {
  const classes = Object.entries(vmclock).filter(([, value]) => typeof value === 'function')
  t.true(classes.length > 0)
  for (const [name, { name: own }] of classes as Array<[string, { name: string }]>) t.is(own, name)
})

/** The package as a new process sees it. */
interface Seen {
  readonly supported: boolean
  readonly reason: string
  readonly list: unknown
  readonly code: string
  readonly message: string
  readonly remedy: string
  readonly isError: boolean
  readonly hasCause: boolean
  readonly twice: string
}

function look(
  file: string,
  before = '',
  env: NodeJS.ProcessEnv = {},
  { by = [] }: { readonly by?: readonly string[] } = {},
): Promise<Seen> {
  return evaluate<Seen>(
    `${before}
    const { VmClock, VmClockError } = require(${JSON.stringify(file)})
    let seen, twice, list
    try { VmClock.open() } catch (error) { seen = error }
    try { VmClock.open('/nonexistent') } catch (error) { twice = error.code }
    try { list = VmClock.list() } catch (error) { list = error.code }
    const { code, message, remedy } = seen
    console.log(JSON.stringify({
      supported: VmClock.isSupported(), reason: VmClock.unsupportedReason, list, code, message, remedy, twice,
      isError: seen instanceof VmClockError && seen instanceof Error,
      hasCause: seen.cause instanceof Error,
    }))`,
    [],
    { env: { VMCLOCK_ADDON: undefined, ...env }, by },
  )
}

/** Copies the built package, with a `native/` directory that `fill` makes. */
function copy(t: ExecutionContext, fill: (nativeFolder: string) => void): string {
  const made = newDirectory(t)
  for (const part of ['dist', 'package.json']) {
    cpSync(join(rootDirectory, part), join(made, part), { recursive: true })
  }
  mkdirSync(join(made, 'native'))
  fill(join(made, 'native'))
  return join(made, 'dist/index.cjs')
}

function refusesToOpen(t: ExecutionContext, seen: Seen, why: RegExp, remedy: RegExp): void {
  t.is(seen.code, 'ERR_VMCLOCK_NATIVE')
  t.is(seen.twice, 'ERR_VMCLOCK_NATIVE')
  t.is(seen.list, 'ERR_VMCLOCK_NATIVE')
  t.false(seen.supported)
  t.is(seen.reason, seen.message)
  t.regex(seen.message, why)
  t.regex(seen.remedy, remedy)
  t.true(seen.isError)
  t.true(seen.hasCause)
}

const addons = readdirSync(join(rootDirectory, 'native')).filter((name) => name.endsWith('.node'))

test('the package loads without its native part, and open says what is missing', async (t) => {
  const seen = await look(copy(t, () => {}))
  const why = /vmclock-linux-\S+ [\d.]+, is not installed/
  refusesToOpen(t, seen, why, /npm install --include=optional vmclock/)
})

test('the package loads with a broken native part, and open says why', async (t) => {
  t.true(addons.length > 0)
  for (const bytes of ['', 'no shared library\n'.repeat(100)]) {
    const file = copy(t, (native) => {
      for (const addon of addons) writeFileSync(join(native, addon), bytes)
    })
    refusesToOpen(
      t,
      await look(file),
      /native\/vmclock\.\S+\.node does not load \(.*\): it is damaged/,
      /remove it and install again/,
    )
  }
})

test('the package loads with a truncated native part, and open says why', async (t) => {
  t.true(addons.length > 0)
  for (const part of [0.05, 0.5, 0.99]) {
    const file = copy(t, (native) => {
      for (const addon of addons) {
        const bytes = readFileSync(join(rootDirectory, 'native', addon))
        writeFileSync(join(native, addon), bytes.subarray(0, bytes.length * part))
      }
    })
    refusesToOpen(
      t,
      await look(file),
      /native\/vmclock\.\S+\.node does not load \(it has \d+ bytes of/,
      /remove it and install again/,
    )
  }
})

test('a package from `npm pack` in a clone is told from one without optional dependencies', async (t) => {
  refusesToOpen(t, await look(copy(t, () => {})), /packed in a clone by `npm pack`/, /npm run pack/)
  const file = copy(t, () => {})
  const manifest = join(file, '../../package.json')
  const published = {
    ...(JSON.parse(readFileSync(manifest, 'utf8')) as object),
    optionalDependencies: { 'vmclock-linux-x64-gnu': '0.1.0' },
  }
  writeFileSync(manifest, JSON.stringify(published))
  refusesToOpen(t, await look(file), /--omit=optional/, /npm install --include=optional vmclock/)
})

test('an addon on a file system without execution is told from a damaged one', async (t) => {
  const mount = newDirectory(t)
  const setUp = `mount -t tmpfs -o noexec none '${mount}'
    cp -r '${rootDirectory}dist' '${rootDirectory}native' '${rootDirectory}package.json' '${mount}'`
  const by = inOwnMounts(t, setUp)
  if (by === undefined) return
  const seen = await look(join(mount, 'dist/index.cjs'), '', {}, { by })
  const where = new RegExp(`file system at ${mount} is mounted with noexec`)
  refusesToOpen(t, seen, where, /mount it without noexec.*VMCLOCK_ADDON/)
  t.notRegex(seen.message, /damaged/)
})

test('an addon that may not be read is told from a damaged one', async (t) => {
  const file = copy(t, (native) => {
    for (const addon of addons) {
      cpSync(join(rootDirectory, 'native', addon), join(native, addon))
      chmodSync(join(native, addon), 0)
    }
  })
  chmodSync(join(file, '../..'), 0o755)
  const seen = await look(file, `process.getuid() === 0 && process.setuid(65534)`)
  refusesToOpen(t, seen, /this user may not read it/, /chmod/)
})

test('importing loads nothing, and the addon is loaded by the first call that needs it', async (t) => {
  // The command is no module. Some modules are imported for what they do then, as clones/protect.
  const manifest = readFileSync(join(rootDirectory, 'package.json'), 'utf8')
  const { sideEffects } = JSON.parse(manifest) as { readonly sideEffects: readonly string[] }
  const modules = readdirSync(join(rootDirectory, 'dist')).filter(
    (name) =>
      name.endsWith('.cjs') && name !== 'cli.cjs' && !sideEffects.includes(`./dist/${name}`),
  )
  t.true(modules.length > 5)
  const mapped = await evaluate<string[]>(`
    const { readFileSync } = require('node:fs')
    const isMapped = () => readFileSync('/proc/self/maps', 'utf8').includes('.node')
    const load = (name) => require(${JSON.stringify(join(rootDirectory, 'dist'))} + '/' + name)
    const mapped = ${JSON.stringify(modules)}.filter((name) => (load(name), isMapped()))
    load('index.cjs').VmClock.isSupported()
    console.log(JSON.stringify(isMapped() ? [...mapped, 'isSupported'] : mapped))`)
  t.deepEqual(mapped, ['isSupported'])
})

test('a load failure is not remembered: the next call may succeed', async (t) => {
  const own = addons.find((name) => name.includes(`-${process.arch}-`))
  const other = join(rootDirectory, 'native', own ?? '')
  const file = copy(t, () => {})
  const found = await evaluate<boolean[]>(`
    const { VmClock } = require(${JSON.stringify(file)})
    const found = [VmClock.isSupported()]
    process.env.VMCLOCK_ADDON = ${JSON.stringify(other)}
    console.log(JSON.stringify([...found, VmClock.isSupported()]))`)
  t.deepEqual(found, [false, true])
})

test('a process with many connections is not asked for their names', async (t) => {
  // The report is what Node looks all peers up for.
  const asked = await evaluate<unknown[]>(`
    const fs = require('node:fs')
    const { readFileSync } = fs
    fs.readFileSync = (path, ...rest) => {
      if (path === '/proc/self/maps') throw new Error('hidden')
      return readFileSync(path, ...rest)
    }
    require('node:module').syncBuiltinESMExports()
    const { getReport } = process.report
    const seen = []
    process.report.getReport = (...all) => {
      seen.push(process.report.excludeNetwork)
      return getReport.apply(process.report, all)
    }
    const { VmClock } = require(${JSON.stringify(join(rootDirectory, 'dist/index.cjs'))})
    seen.push(VmClock.isSupported(), process.report.excludeNetwork)
    console.log(JSON.stringify(seen))`)
  t.deepEqual(asked, [true, true, false])
})

test('a VMCLOCK_ADDON that names no file is refused at once', async (t) => {
  const fifo = newPath(t)
  execFileSync('mkfifo', [fifo])
  const file = copy(t, () => {})
  for (const path of [fifo, '/dev/zero', newDirectory(t), newPath(t)]) {
    const seen = await look(file, '', { VMCLOCK_ADDON: path })
    refusesToOpen(t, seen, /VMCLOCK_ADDON names .* no addon is there/, /remove the variable/)
  }
})

test('the package loads with a native part of another release, and open says so', async (t) => {
  const other = newPath(t)
  writeFileSync(other, 'exports.openClock = () => {}')
  const file = copy(t, () => {})
  const seen = await look(file, '', { VMCLOCK_ADDON: other })
  refusesToOpen(t, seen, /of another release, without .*counterCost, .*listPages/, /install again/)
})

for (const [platform, arch] of [
  ['darwin', 'arm64'],
  ['win32', 'x64'],
  ['linux', 'riscv64'],
] as const) {
  test(`on ${platform}-${arch} the package loads and says that it is not supported`, async (t) => {
    const seen = await look(
      join(rootDirectory, 'dist/index.cjs'),
      `Object.defineProperty(process, 'platform', { value: '${platform}' })
      Object.defineProperty(process, 'arch', { value: '${arch}' })`,
    )
    t.is(seen.code, 'ERR_VMCLOCK_UNSUPPORTED')
    t.false(seen.supported)
    t.deepEqual(seen.list, [])
    t.regex(seen.reason, new RegExp(`this is ${platform}-${arch}$`))
    t.regex(seen.remedy, /ask VmClock.isSupported/)
    t.true(seen.isError)
  })
}

test('the package is supported here', (t) => {
  t.true(vmclock.VmClock.isSupported())
  t.is(vmclock.VmClock.unsupportedReason, undefined)
  t.true(Array.isArray(vmclock.VmClock.list()))
})

test('errors are recognized across two copies of the package', async (t) => {
  const made = newDirectory(t)
  for (const part of ['dist', 'native']) {
    cpSync(join(rootDirectory, part), join(made, part), { recursive: true })
  }
  const other = (await import(pathToFileURL(join(made, 'dist/index.mjs')).href)) as typeof vmclock
  t.not(other.VmClock, vmclock.VmClock)
  const error = t.throws(() => other.VmClock.open(newPath(t)))
  t.true(error instanceof vmclock.VmClockError)
  t.true(vmclock.VmClockError.isVmClockError(error))
  t.true(error instanceof other.VmClockError)
  t.true(error instanceof Error)
})

test('other values are not recognized as errors of the package', (t) => {
  for (const value of [new Error('x'), null, undefined, 'ERR_VMCLOCK_CLOSED', {}, () => {}]) {
    t.false(value instanceof vmclock.VmClockError)
    t.false(vmclock.VmClockError.isVmClockError(value))
  }
})

test('an error of the package is no instance of a class that extends its class', (t) => {
  class Mine extends vmclock.VmClockError {}
  const error = new vmclock.VmClockError('ERR_VMCLOCK_CLOSED', 'message')
  t.false(error instanceof Mine)
  const mine = new Mine('ERR_VMCLOCK_CLOSED', 'message')
  t.true(mine instanceof Mine)
  t.true(mine instanceof vmclock.VmClockError)
  t.is(vmclock.VmClockError.name, 'VmClockError')
})

test('an error has the details that it was given and no others', (t) => {
  const cause = new Error('underneath')
  const error = new vmclock.VmClockError('ERR_VMCLOCK_SYSTEM', 'message', { errno: 5, cause })
  t.is(error.name, 'VmClockError')
  t.is(error.errno, 5)
  t.is(error.cause, cause)
  for (const absent of ['remedy', 'path', 'syscall']) t.false(absent in error)
})

test('an error shows its message as text, and its remedy is a field of its own', (t) => {
  const error = new vmclock.VmClockError('ERR_VMCLOCK_BUSY', 'held; really', { remedy: 'stop it' })
  t.is(error.message, 'held; really')
  t.is(error.remedy, 'stop it')
  t.is(String(error), 'VmClockError: held; really')
  t.regex(String(error.stack), /Error: held; really/)
  t.notRegex(String(error.stack), /stop it/)
})
