// The command line goes on, or ends with a documented exit code, whatever becomes of its three streams, its
// terminal and its signals.

import { spawn, spawnSync } from 'node:child_process'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { dirname } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import type { VmClock } from 'vmclock'
import { commandLine, isEmulated, nodeCommand, rootDirectory, run, start } from './node-command'
import { liveFields, newPath, open, page } from './pages'
import { hasTerminals, onTerminal, shellCommand } from './terminal'

type Stdio = 'pipe' | 'ignore' | number

interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stderr: string
}

interface Started {
  readonly pid: number
  kill(signal: NodeJS.Signals): void
  readonly ended: Promise<Ended>
}

/** Starts the command line with these streams, and by these programs. */
function startWith(
  t: ExecutionContext,
  words: readonly string[],
  { stdin = 'ignore', stdout = 'ignore', by = [], env = {} }: Options = {},
): Started {
  const [program, ...args] = [...by, ...nodeCommand(commandLine, ...words)] as [string, ...string[]]
  const child = spawn(program, args, {
    cwd: rootDirectory,
    env: { ...process.env, VMCLOCK_PATH: '', NO_COLOR: '1', ...env },
    stdio: [stdin, stdout, 'pipe'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  let stderr = ''
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  return {
    pid: child.pid ?? 0,
    kill: (signal) => child.kill(signal),
    ended: new Promise((resolve) => {
      child.once('close', (code, signal) => resolve({ code, signal, stderr }))
    }),
  }
}

interface Options {
  readonly stdin?: Stdio
  readonly stdout?: Stdio
  readonly by?: readonly string[]
  readonly env?: NodeJS.ProcessEnv
}

function opened(t: ExecutionContext, path: string, flags: string): number {
  const file = openSync(path, flags)
  t.teardown(() => closeSync(file))
  return file
}

const PUBLISH = ['--allow-untrusted-counter', '--interval', '100ms']

async function until(question: () => boolean): Promise<void> {
  while (!question()) await new Promise((resolve) => setTimeout(resolve, 20))
}

/** Waits until a page exists and opens it. */
async function openSoon(t: ExecutionContext, path: string): Promise<VmClock> {
  for (;;) {
    try {
      return open(t, path)
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
}

/** Waits for some more updates of a page. */
async function goesOn(clock: VmClock): Promise<void> {
  const { seqCount } = clock.snapshot().raw
  await until(() => clock.snapshot().raw.seqCount >= seqCount + 6)
}

// Standard output

test('a full disk ends each command with one error and exit code 1', async (t) => {
  const { path } = page(t, liveFields(t))
  const full = opened(t, '/dev/full', 'w')
  for (const words of [
    ['--help'],
    ['--version'],
    ['publish', '--help'],
    ['status', path],
    ['now', path],
    ['now', path, '--json'],
    ['watch', path],
    ['watch', path, '--json'],
    ['doctor', path],
    ['doctor', '--udev-rule'],
    ['demo', '--seconds', '1'],
  ]) {
    const { code, stderr } = await startWith(t, words, { stdout: full }).ended
    t.is(code, 1, words.join(' '))
    t.is(stderr.match(/standard output cannot be written: .*ENOSPC/g)?.length, 1, stderr)
    t.notRegex(stderr, /^\s+at /m)
  }
})

test('a limit of file sizes ends each command with one error and exit code 1', async (t) => {
  const path = newPath(t)
  const limited = `ulimit -f 0; exec "$@" > ${path}`
  for (const args of [['now', '--json'], ['doctor'], ['publish', '--help']]) {
    const by = ['/bin/sh', '-c', limited, 'sh']
    const { exitCode, stderr } = await run([commandLine, ...args], { by })
    t.is(exitCode, 1, stderr)
    t.regex(stderr, /standard output cannot be written: EFBIG/)
  }
  const by = ['/bin/sh', '-c', 'ulimit -f 0; exec "$@"', 'sh']
  const { exitCode, stderr } = await run([commandLine, 'publish', newPath(t)], { by })
  t.is(exitCode, 1, stderr)
  t.regex(stderr, /ulimit -f.*\n.*ERR_VMCLOCK_SYSTEM/)
})

test('publish: a full disk is told once, and the page goes on', async (t) => {
  const path = newPath(t)
  const full = opened(t, '/dev/full', 'w')
  const publishing = startWith(t, ['publish', path, ...PUBLISH], { stdout: full })
  const clock = await openSoon(t, path)
  await goesOn(clock)
  publishing.kill('SIGTERM')
  const { code, stderr } = await publishing.ended
  t.is(code, 0, stderr)
  t.is(stderr.match(/standard output cannot be written/g)?.length, 1, stderr)
  t.is(clock.snapshot().clockStatus, 'unreliable')
})

test('a reader that leaves before a command begins is no error', async (t) => {
  const { path } = page(t, liveFields(t))
  for (const words of [
    ['--help'],
    ['publish', '--help'],
    ['watch', '--help'],
    ['demo', '--help'],
    ['publish', '--interval', '1'],
    ['now', path],
    ['doctor', path],
  ]) {
    for (let times = 0; times < 3; times++) {
      const running = start([commandLine, ...words])
      running.child.stdout.destroy()
      running.child.stderr.destroy()
      const { exitCode, signal } = await running.outcome
      t.is(signal, null)
      t.true(exitCode === 0 || words.includes('1'), `${words.join(' ')}: ${exitCode}`)
    }
  }
})

test('publish: goes on after its terminal is gone, and a signal ends it with 0', async (t) => {
  if (!hasTerminals(t)) return
  const path = newPath(t)
  const log = newPath(t)
  // The shell ignores SIGHUP for the publisher alone, which is what `disown -h` does.
  const command = shellCommand(commandLine, 'publish', path, ...PUBLISH)
  const terminal = onTerminal(
    t,
    `setsid sh -c '${command.replaceAll("'", "'\\''")} 2>>${log}; echo "exit $?" >>${log}' </dev/null & echo started; wait`,
  )
  await terminal.shows(/started/)
  const clock = await openSoon(t, path)
  terminal.child.kill('SIGKILL')
  await terminal.ended
  await goesOn(clock)
  const found = spawnSync('pgrep', ['-f', `publish ${path} `], { encoding: 'utf8' }).stdout
  for (const pid of found.trim().split('\n')) {
    if (/^\S*node/.test(readFileSync(`/proc/${pid}/cmdline`, 'utf8'))) process.kill(Number(pid))
  }
  await until(() => readFileSync(log, 'utf8').includes('exit '))
  t.regex(readFileSync(log, 'utf8'), /^exit 0$/m)
  t.notRegex(readFileSync(log, 'utf8'), /^\s+at /m)
  t.is(clock.snapshot().clockStatus, 'unreliable')
})

// Standard input

for (const [name, path, flags] of [
  ['cannot be read', '/dev/null', 'w'],
  ['is a directory', '/', 'r'],
  ['is empty', '/dev/null', 'r'],
] as const) {
  test(`publish: goes on where standard input ${name}`, async (t) => {
    const page = newPath(t)
    const stdin = opened(t, path, flags)
    const publishing = startWith(t, ['publish', page, ...PUBLISH], { stdin })
    const clock = await openSoon(t, page)
    await goesOn(clock)
    publishing.kill('SIGTERM')
    t.deepEqual(await publishing.ended, { code: 0, signal: null, stderr: '' })
    t.is(clock.snapshot().clockStatus, 'unreliable')
  })
}

test('publish: goes on where standard input is closed', async (t) => {
  const path = newPath(t)
  const by = ['sh', '-c', 'exec "$@" <&-', 'sh']
  const publishing = startWith(t, ['publish', path, ...PUBLISH], { by })
  const clock = await openSoon(t, path)
  await goesOn(clock)
  publishing.kill('SIGTERM')
  t.deepEqual(await publishing.ended, { code: 0, signal: null, stderr: '' })
})

test('publish: goes on under nohup in a terminal, and takes no commands', async (t) => {
  if (!hasTerminals(t)) return
  const path = newPath(t)
  const command = shellCommand(commandLine, 'publish', path, ...PUBLISH)
  // A shell in between would end by the signal, too.
  const terminal = onTerminal(t, `exec ${command} 0>/dev/null`)
  await terminal.shows(/published/)
  const clock = await openSoon(t, path)
  terminal.type('quit\r')
  await goesOn(clock)
  terminal.type('\u0003')
  t.is(await terminal.ended, 0, terminal.output())
  t.notRegex(terminal.output(), /Error|EBADF/)
})

test('publish: a background job goes on while the user types, and reads in the foreground', async (t) => {
  if (!hasTerminals(t)) return
  const path = newPath(t)
  const terminal = onTerminal(t, 'sh -i')
  await terminal.shows(/[$#] $/)
  terminal.type(`${shellCommand(commandLine, 'publish', path, ...PUBLISH)} &\r`)
  await terminal.shows(/published/)
  const clock = await openSoon(t, path)
  const typed = async (): Promise<void> => {
    for (const word of ['one', 'two', 'three']) {
      terminal.type(`echo <${word}>; echo "=$((1 + 1))="\r`.replace(/<|>/g, ''))
      await terminal.shows(/=2=/)
    }
    await goesOn(clock)
  }
  await typed()
  terminal.type('fg\r')
  await terminal.shows(/publish/)
  // It reads the terminal again within a second. Until then the terminal keeps the line.
  const token = clock.continuityToken()
  terminal.type('disrupt\r')
  await terminal.shows(/disrupted/)
  t.false(clock.isContinuous(token))
  terminal.type('\u001a')
  await terminal.shows(/Stopped/)
  terminal.type('bg\r')
  await typed()
  terminal.type('jobs\r')
  t.regex((await terminal.shows(/(Running|Stopped).*publish/))[0], /Running/)
  terminal.type('fg\r')
  await terminal.shows(/publish/)
  terminal.type('quit\r')
  await terminal.shows(/stopped/)
  terminal.type('exit\r')
  t.is(await terminal.ended, 0)
})

// Signals

test('publish: goes on under nohup when its terminal hangs up, and ends on SIGTERM', async (t) => {
  if (!hasTerminals(t)) return
  const path = newPath(t)
  const log = newPath(t)
  // The command itself is started, as its users do: its launcher reads which signals are ignored.
  const words = [commandLine, 'publish', path, ...PUBLISH].map((word) => `'${word}'`).join(' ')
  const terminal = onTerminal(
    t,
    `nohup ${words} </dev/null >${log} 2>&1 & echo "started $!"; wait`,
    { PATH: `${dirname(process.execPath)}:${process.env['PATH']}` },
  )
  const [, pid = ''] = await terminal.shows(/started (\d+)/)
  t.teardown(() => {
    try {
      process.kill(Number(pid), 'SIGKILL')
    } catch {}
  })
  const clock = await openSoon(t, path)
  // The kernel sends SIGHUP to all processes of the terminal.
  terminal.child.kill('SIGKILL')
  await terminal.ended
  await goesOn(clock)
  process.kill(Number(pid), 'SIGTERM')
  await until(() => /stopped/.test(readFileSync(log, 'utf8')))
  t.is(clock.snapshot().clockStatus, 'unreliable')
})

for (const [signal, ignore] of [
  ['SIGHUP', "trap '' HUP"],
  ['SIGINT', "trap '' INT"],
  ['SIGTERM', "trap '' TERM"],
] as const) {
  test(`publish, watch: ${signal} stays ignored if it was ignored at the start`, async (t) => {
    if (isEmulated) {
      t.pass()
      return
    }
    const made = page(t, liveFields(t))
    const path = newPath(t)
    for (const words of [
      ['publish', path, ...PUBLISH],
      ['watch', made.path],
    ]) {
      const child = spawn('sh', ['-c', `${ignore}; exec "$@"`, 'sh', commandLine, ...words], {
        env: { ...process.env, PATH: `${dirname(process.execPath)}:${process.env['PATH']}` },
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      t.teardown(() => child.kill('SIGKILL'))
      const ended = new Promise((resolve) => child.once('close', (code, by) => resolve([code, by])))
      const printed = (): Promise<unknown> =>
        new Promise((resolve) => child.stdout.once('data', resolve))
      await printed()
      child.kill(signal)
      if (words[0] === 'publish') await goesOn(await openSoon(t, path))
      else await printed()
      t.is(child.exitCode, null)
      t.is(child.signalCode, null)
      child.kill(signal === 'SIGTERM' ? 'SIGINT' : 'SIGTERM')
      t.deepEqual(await ended, [0, null])
    }
  })
}
