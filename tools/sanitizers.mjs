#!/usr/bin/env node
// Runs the core's tests that reach unsafe code under the address and the thread sanitizer, each after it
// was seen to report a bug that is planted for it.
//
//   node tools/sanitizers.mjs                     both
//   node tools/sanitizers.mjs address | thread    one
//
// The thread sanitizer shows that nothing on a page is accessed but by atomics, and that threads hand
// each other everything else properly. The order of the page's own loads and stores rests on fences,
// which it does not follow: the `model` suite checks it.

import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { sourceCompiler } from './addons.mjs'
import {
  asProgram,
  CommandFailed,
  capture,
  rootFolder,
  run,
  timed,
  Unavailable,
} from './command.mjs'
import { rustTestTargets } from './rust-tests.mjs'

// On memory, counters and clocks of their own, in safe code throughout.
const virtual = ['arithmetic', 'fleet', 'moved_clock', 'publication', 'fast_path', 'vectors']

const sanitizers = {
  address: {
    bug: 'a_word_is_read_behind_the_last_one',
    report: 'AddressSanitizer: heap-buffer-overflow',
    // It takes mmap away from itself, without which this sanitizer cannot allocate.
    without: ['denied'],
    async compiler() {
      await runtime('asan')
      return { env: {}, flags: [], words: [] }
    },
  },
  thread: {
    bug: 'a_mapped_word_is_stored_without_an_atomic_while_another_thread_loads_it',
    report: 'ThreadSanitizer: data race',
    without: [],
    // What the standard library does between threads it has to see too, or every hand-over is a race.
    async compiler() {
      const { env } = await sourceCompiler()
      const words = ['-Zbuild-std']
      if (env.RUSTC === undefined) return { env, words, flags: [] }
      // Debian's compiler comes without it. Any release's is as good: its interface stays.
      const whole = ['-Wl,--whole-archive', await runtime('tsan'), '-Wl,--no-whole-archive']
      const flags = ['-Zexternal-clangrt', ...whole.map((part) => `-Zpre-link-args=${part}`)]
      return { env, words, flags }
    },
  },
}

await asProgram(import.meta.url, async (words) => {
  const names = words.length > 0 ? words : Object.keys(sanitizers)
  const unknown = names.filter((name) => sanitizers[name] === undefined)
  if (unknown.length > 0) {
    throw new CommandFailed('sanitizers', words, `there are: ${Object.keys(sanitizers).join(' ')}`)
  }
  for (const name of names) await underSanitizer(name)
})

async function underSanitizer(name) {
  const { bug, report, without, compiler } = sanitizers[name]
  const { env, flags, words } = await compiler()
  const cargo = ['test', ...words, '--target', await host(), '-p', 'vmclock']
  const options = {
    env: {
      ...env,
      // Sanitizers are for nightly compilers; the one that is used is stable all the same.
      RUSTC_BOOTSTRAP: '1',
      CARGO_ENCODED_RUSTFLAGS: [`-Zsanitizer=${name}`, ...flags].join('\x1f'),
      CARGO_TARGET_DIR: join(rootFolder, 'target/sanitizers', name),
    },
  }
  const said = await timed(`the planted bug, under the ${name} sanitizer`, () =>
    capture('cargo', [...cargo, '--test', 'planted', bug, '--', '--ignored'], options).then(
      () => '',
      ({ message }) => message,
    ),
  )
  if (!said.includes(report)) {
    throw new CommandFailed('cargo', cargo, `the ${name} sanitizer did not report ${bug}`, said)
  }
  console.log(`vmclock: reported as it should be: ${report}`)
  const targets = await rustTestTargets({ without: [...virtual, 'planted', ...without] })
  await timed(`tests under the ${name} sanitizer`, () =>
    run('cargo', [...cargo, ...targets], options),
  )
}

/** The library of a sanitizer, as rustup's compilers bring it along. */
async function runtime(name) {
  const sysroot = (await capture('rustc', ['--print', 'sysroot'])).trim()
  const folder = join(sysroot, 'lib/rustlib', await host(), 'lib')
  const file = existsSync(folder)
    ? readdirSync(folder).find((file) => file.endsWith(`_rt.${name}.a`))
    : undefined
  if (file === undefined) {
    throw new Unavailable(`no library of the sanitizer (${name}): install Rust by rustup`)
  }
  return join(folder, file)
}

async function host() {
  return /^host: (.*)$/m.exec(await capture('rustc', ['-vV']))[1]
}
