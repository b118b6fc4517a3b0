// Live output and colours follow what the terminal can do and what the user asked for.

import test from 'ava'
import { commandLine, run } from './node-command'
import { liveFields, page } from './pages'
import { hasTerminals, onTerminal, shellCommand } from './terminal'

const ESCAPE = '\u001b'

/** Shows `vmclock watch` on a terminal until its second line of the time, and returns all of it. */
async function watched(
  t: Parameters<typeof onTerminal>[0],
  env: NodeJS.ProcessEnv,
  before = '',
): Promise<string> {
  const { path } = page(t, liveFields(t))
  const terminal = onTerminal(t, `${before}exec ${shellCommand(commandLine, 'watch', path)}`, env)
  for (let times = 0; times < 2; times++) await terminal.shows(/time\s+\d{4}-/)
  terminal.type('\u0003')
  t.is(await terminal.ended, 0)
  return terminal.output()
}

for (const [name, env, before] of [
  ['TERM=dumb', { TERM: 'dumb' }, ''],
  ['an empty TERM', { TERM: '' }, ''],
  ['fewer rows than lines', {}, 'stty rows 3; '],
] as const) {
  test(`watch: prints plain lines on a terminal with ${name}`, async (t) => {
    if (!hasTerminals(t)) return
    const shown = await watched(t, env, before)
    t.notRegex(shown.replaceAll(ESCAPE, 'ESC'), /ESC\[\d+A/)
    if (before === '') t.false(shown.includes(ESCAPE), JSON.stringify(shown))
  })
}

test('watch: updates in place on a terminal with more rows than lines', async (t) => {
  if (!hasTerminals(t)) return
  t.true((await watched(t, {}, 'stty rows 24; ')).includes(`${ESCAPE}[3A`))
})

for (const [env, isColoured] of [
  [{ FORCE_COLOR: '1' }, true],
  [{ FORCE_COLOR: 'true' }, true],
  [{ FORCE_COLOR: '0' }, false],
  [{ FORCE_COLOR: '' }, false],
  [{ FORCE_COLOR: '1', NO_COLOR: '1' }, false],
  [{ FORCE_COLOR: '1', TERM: 'dumb' }, true],
  [{ CLICOLOR_FORCE: '1' }, true],
  [{ CLICOLOR_FORCE: '0' }, false],
  [{ CLICOLOR_FORCE: '1', CLICOLOR: '0' }, true],
  [{ CLICOLOR: '1' }, false],
] as const) {
  test(`colours without a terminal follow ${JSON.stringify(env)}`, async (t) => {
    const { path } = page(t, liveFields(t))
    const { stdout, exitCode } = await run([commandLine, 'status', path], {
      env: { NO_COLOR: '', ...env },
    })
    t.is(exitCode, 0)
    t.is(stdout.includes(`${ESCAPE}[2m`), isColoured)
  })
}

for (const [env, isColoured] of [
  [{}, true],
  [{ CLICOLOR: '0' }, false],
  [{ CLICOLOR: '1' }, true],
  [{ FORCE_COLOR: '0' }, false],
  [{ NO_COLOR: '1' }, false],
  [{ TERM: 'dumb' }, false],
] as const) {
  test(`colours on a terminal follow ${JSON.stringify(env)}`, async (t) => {
    if (!hasTerminals(t)) return
    const { path } = page(t, liveFields(t))
    const terminal = onTerminal(t, `exec ${shellCommand(commandLine, 'status', path)}`, {
      NO_COLOR: '',
      ...env,
    })
    t.is(await terminal.ended, 0)
    t.is(terminal.output().includes(`${ESCAPE}[2m`), isColoured)
  })
}
