#!/usr/bin/env node
// Runs the core's tests that reach unsafe code, and draws from OpenSSL during reseeds, under the address and the
// thread sanitizer. Each sanitizer must first report a planted bug.
//
//   node tools/sanitizers.mjs                     both
//   node tools/sanitizers.mjs address | thread    one
//
// The thread sanitizer shows that only atomics access a page, and that threads synchronize all other shared
// data. It does not model fences, which order the loads and stores of a page: the `model` suite checks those.

import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { WITHOUT_NODE } from './addon-tests.mjs'
import { sourceCompiler } from './addons.mjs'
import {
  asProgram,
  CommandFailed,
  capture,
  rootDirectory,
  run,
  timed,
  Unavailable,
} from './command.mjs'
import { rustTestTargets } from './rust-tests.mjs'

// Tests on simulated memory, counters and clocks, which run only safe code.
const virtual = ['arithmetic', 'fleet', 'moved_clock', 'publication', 'fast_path', 'vectors']

const sanitizers = {
  address: {
    bug: 'a_word_is_read_behind_the_last_one',
    report: 'AddressSanitizer: heap-buffer-overflow',
    // That test denies itself mmap, which this sanitizer needs to allocate.
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
    // The standard library must be instrumented too, or each hand-over between threads is a false race.
    async compiler() {
      const { env } = await sourceCompiler()
      const words = ['-Zbuild-std']
      if (env.RUSTC === undefined) return { env, words, flags: [] }
      // Debian's compiler has no sanitizer library. Another release's works, because the interface is stable.
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
  const cargoTest = ['test', ...words, '--target', await host(), '-p']
  const cargo = [...cargoTest, 'vmclock']
  const options = {
    env: {
      ...env,
      // Lets the stable compiler use sanitizers.
      RUSTC_BOOTSTRAP: '1',
      CARGO_ENCODED_RUSTFLAGS: [`-Zsanitizer=${name}`, WITHOUT_NODE, ...flags].join('\x1f'),
      CARGO_TARGET_DIR: join(rootDirectory, 'target/sanitizers', name),
      // The tests of a fork start threads in the child.
      TSAN_OPTIONS: 'die_after_fork=0',
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
  console.log(`vmclock: the planted bug is reported: ${report}`)
  await timed(`draws and reseeds under the ${name} sanitizer`, () =>
    run('cargo', [...cargoTest, 'vmclock-napi', '--lib'], options),
  )
  const targets = await rustTestTargets({ without: [...virtual, 'planted', ...without] })
  await timed(`tests under the ${name} sanitizer`, () =>
    run('cargo', [...cargo, ...targets], options),
  )
}

/** Returns the path of a sanitizer's library. Compilers from rustup include it. */
async function runtime(name) {
  const sysroot = (await capture('rustc', ['--print', 'sysroot'])).trim()
  const directory = join(sysroot, 'lib/rustlib', await host(), 'lib')
  const file = existsSync(directory)
    ? readdirSync(directory).find((file) => file.endsWith(`_rt.${name}.a`))
    : undefined
  if (file === undefined) {
    throw new Unavailable(`no library of the sanitizer (${name}): install Rust by rustup`)
  }
  return join(directory, file)
}

async function host() {
  return /^host: (.*)$/m.exec(await capture('rustc', ['-vV']))[1]
}
