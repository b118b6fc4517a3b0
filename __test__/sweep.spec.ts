// Every command ends with a documented exit code and without a stack, in every surrounding that users have
// reported.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs'
import { type AddressInfo, connect, createServer } from 'node:net'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { commandLine, inOwnMounts, isEmulated, nodeCommand, rootDirectory } from './node-command'
import { liveFields, newDirectory, newPath, open, page } from './pages'
import { hasTerminals, onTerminal, shellCommand } from './terminal'

type Stdio = 'pipe' | 'ignore' | number

interface Surrounding {
  readonly by?: readonly string[]
  readonly nodeFlags?: readonly string[]
  readonly env?: NodeJS.ProcessEnv
  readonly stdin?: Stdio
  readonly stdout?: Stdio
  /** The reader of standard output leaves at once. */
  readonly closesPipe?: boolean
}

/** The commands that read or write a page in a directory. The last ones run until they are stopped. */
function commands(t: ExecutionContext): ReadonlyArray<readonly string[]> {
  const { path } = page(t, liveFields(t))
  return [
    ['status', path],
    ['now', path],
    ['check', path],
    ['wait', path, '--timeout', '10s'],
    ['ptp', '/dev/null'],
    ['doctor', path],
    ['demo', '--seconds', '1'],
    ['metrics', path],
    ['metrics', path, '--file', newPath(t)],
    ['metrics', path, '--interval', '1h', '--file', newPath(t)],
    ['metrics', path, '--listen', ANY_PORT],
    ['watch', path],
    ['publish', newPath(t), '--allow-untrusted-counter'],
  ]
}

/** In a command: a port that is free when the command starts. */
const ANY_PORT = 'any-port'

const LOOK_MS = 20

async function sweep(t: ExecutionContext, surrounding: Surrounding): Promise<void> {
  const { by = [], nodeFlags = [], env = {}, stdin = 'ignore', stdout = 'pipe' } = surrounding
  const closesPipe = surrounding.closesPipe === true
  for (const command of commands(t)) {
    const port = command.includes(ANY_PORT) ? String(await freePort()) : undefined
    const words = command.map((word) => (word === ANY_PORT ? (port ?? '') : word))
    const [program, ...args] = [...by, ...nodeCommand(...nodeFlags, commandLine, ...words)] as [
      string,
      ...string[],
    ]
    const child = spawn(program, args, {
      cwd: rootDirectory,
      env: { ...process.env, VMCLOCK_PATH: '', ...env },
      stdio: [stdin, stdout, 'pipe'],
    })
    let stderr = ''
    if (closesPipe) child.stdout?.destroy()
    child.stdout?.resume()
    // A watcher whose output is lost ends by itself. A publisher goes on.
    if (words[0] === 'watch') child.stdout?.once('data', () => child.kill('SIGTERM'))
    if (words[0] === 'publish') void stopOnce(child, () => existsSync(words[1] ?? ''))
    if (words.includes('--interval')) void stopOnce(child, () => existsSync(words.at(-1) ?? ''))
    if (port !== undefined) void stopOnce(child, () => listens(Number(port)))
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
    })
    const [code, signal] = await new Promise<unknown[]>((resolve) =>
      child.once('close', (...all) => resolve(all)),
    )
    const told = `${words[0]}: ${code} ${signal} ${stderr}`
    t.true(code === 0 || code === 1, told)
    t.notRegex(stderr, /^\s+at |Uncaught|Unhandled|ERR_VMCLOCK_INTERNAL/m, told)
    if (code === 1 && words[0] !== 'doctor') t.regex(stderr, /ERR_VMCLOCK_/, told)
  }
}

/** Stops a command that runs on, once it does what it is for. */
async function stopOnce(
  child: ChildProcess,
  isReady: () => boolean | Promise<boolean>,
): Promise<void> {
  while (!(await isReady()) && child.exitCode === null && child.signalCode === null) {
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS))
  }
  child.kill('SIGTERM')
}

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => resolve(true))
    socket.once('error', () => resolve(false)).once('connect', () => socket.destroy())
  })
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo
      server.close(() => resolve(port))
    })
  })
}

function opened(t: ExecutionContext, path: string, flags: string): number {
  const file = openSync(path, flags)
  t.teardown(() => closeSync(file))
  return file
}

test('every command, with a full disk', (t) => sweep(t, { stdout: opened(t, '/dev/full', 'w') }))

test('every command, with a closed pipe', (t) => sweep(t, { closesPipe: true }))

test('every command, with a closed standard input', (t) =>
  sweep(t, { by: ['sh', '-c', 'exec "$@" <&-', 'sh'] }))

test('every command, with a standard input that cannot be read', (t) =>
  sweep(t, { stdin: opened(t, '/dev/null', 'w') }))

test('every command, with a directory as standard input', (t) =>
  sweep(t, { stdin: opened(t, '/', 'r') }))

test('every command, with signals ignored', (t) =>
  sweep(t, { by: ['sh', '-c', 'trap \'\' HUP INT QUIT; exec "$@"', 'sh'] }))

test('every command, without a temporary directory', (t) =>
  sweep(t, { env: { TMPDIR: '/nonexistent' } }))

test('every command, with a root that is read-only', async (t) => {
  // A user namespace may not uncover what lies below the mounts of its root, so a plain bind is refused.
  const by = inOwnMounts(t, 'mount --rbind / /mnt && mount -o remount,bind,ro /mnt')
  if (by === undefined) return
  await sweep(t, { by: [...by, 'chroot', '/mnt'] })
})

test('every command, under the permission model', (t) => {
  const [major = 0] = process.versions.node.split('.').map(Number)
  const flag = major >= 24 ? '--permission' : '--experimental-permission'
  return sweep(t, {
    nodeFlags: [flag, '--allow-fs-read=*', ...(major >= 22 ? ['--allow-addons'] : [])],
    env: { NODE_NO_WARNINGS: '1' },
  })
})

for (const term of ['dumb', 'xterm']) {
  test(`every command, on a terminal that is lost: TERM=${term}`, async (t) => {
    if (!hasTerminals(t)) return
    // `ptp` prints only an error here, which goes to the log. `publish` and `metrics` go on by design
    // (streams.spec.ts, metrics-command.spec.ts).
    for (const words of commands(t).filter(
      ([command = '', ...rest]) =>
        !['ptp', 'publish'].includes(command) &&
        !rest.some((word) => ['--interval', '--listen'].includes(word)),
    )) {
      const log = newPath(t)
      const line = shellCommand(commandLine, ...words)
      const shell = `trap '' HUP; ${line} 2>>${log}; echo "ended $?" >>${log}`
      const terminal = onTerminal(t, shell, { TERM: term })
      await terminal.shows(/\S/)
      terminal.child.kill('SIGKILL')
      await terminal.ended
      const told = await ended(log)
      // A command that is about to end may be ended by the SIGHUP of the terminal itself.
      t.regex(told, /^ended (?:0|1|129)$/m, `${words[0]}: ${told}`)
      t.notRegex(told, /^\s+at |Uncaught|Assertion|ERR_VMCLOCK_INTERNAL/m, `${words[0]}: ${told}`)
    }
  })
}

/** Returns a log once its last line says that the command has ended. */
async function ended(log: string): Promise<string> {
  for (;;) {
    const text = readFileSync(log, 'utf8')
    if (text.includes('ended ')) return text
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS))
  }
}

test('publish as PID 1 ends on SIGTERM with its page marked', async (t) => {
  const by = ['unshare', '--user', '--map-root-user', '--pid', '--fork', '--kill-child']
  if (isEmulated || spawnSync(by[0] ?? '', [...by.slice(1), 'true']).status !== 0) {
    t.log('skipped: no PID namespace of its own')
    t.pass()
    return
  }
  const path = join(newDirectory(t), 'page')
  const launched = [commandLine, 'publish', path, '--allow-untrusted-counter']
  const child = spawn(by[0] ?? '', [...by.slice(1), ...launched], {
    cwd: rootDirectory,
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, VMCLOCK_PATH: '' },
  })
  t.teardown(() => child.kill('SIGKILL'))
  await new Promise((resolve) => child.stdout.once('data', resolve))
  const clock = open(t, path)
  // unshare forks, and PID 1 is its child.
  const { stdout } = spawnSync('pgrep', ['-P', String(child.pid)], { encoding: 'utf8' })
  process.kill(Number(stdout.trim()), 'SIGTERM')
  child.stdout.resume()
  t.is(await new Promise((resolve) => child.once('close', resolve)), 0)
  t.is(clock.snapshot().clockStatus, 'unreliable')
})
