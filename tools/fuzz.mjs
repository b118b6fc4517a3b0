#!/usr/bin/env node
// Fuzzes the reader, and the publisher that takes a page over, with libFuzzer, by whatever reaches more of
// them, and holds each answer against the big-integer model of the Rust tests.
//
//   node tools/fuzz.mjs                ten million inputs
//   node tools/fuzz.mjs --short        a hundred thousand
//   node tools/fuzz.mjs --runs N       N
//   node tools/fuzz.mjs --keep         afterwards crate/fuzz/corpus is what reached something, minimized
//
//   node tools/fuzz.mjs --coverage     what the kept ones reach of the crate, and the lines that they do not
//
// What is kept there, `npm test -- rust` runs without any of this. What failed lies in target/fuzz/failed;
// `node tools/fuzz.mjs --again FILE` runs one of these once more.

import { cpSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { basename, dirname, join, relative, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { cached } from './cache.mjs'
import {
  asProgram,
  CommandFailed,
  capture,
  rootFolder,
  run,
  succeeds,
  Unavailable,
} from './command.mjs'
import { debianFolder, debianProgram } from './debian.mjs'

const version = '0.13.2'

// `read` runs no unsafe code at all: its page is the harness's. What a sanitizer would cost there, nine
// tenths of the inputs, is better spent on inputs; `npm run test:sanitizers` runs what is kept of them
// under one. `open` maps a file. `takeover` starts a publisher for some of its inputs, and takes four times as
// long as `read`.
const targets = [
  { name: 'read', sanitizer: 'none', share: 0.88, mostBytes: 182 },
  { name: 'takeover', sanitizer: 'none', share: 0.1, mostBytes: 190 },
  { name: 'open', sanitizer: 'address', share: 0.02, mostBytes: 160 },
]

const fuzzFolder = join(rootFolder, 'crate/fuzz')
const workFolder = join(rootFolder, 'target/fuzz')

await asProgram(import.meta.url, async (words) => {
  const { values } = parseArgs({
    args: words,
    options: {
      short: { type: 'boolean' },
      runs: { type: 'string' },
      keep: { type: 'boolean' },
      again: { type: 'string' },
      coverage: { type: 'boolean' },
    },
  })
  if (values.coverage) return coverage()
  const runs = Number(values.runs ?? (values.short ? 100_000 : 10_000_000))
  if (!Number.isSafeInteger(runs) || runs < 10) {
    throw new CommandFailed('fuzz', words, 'needs ten runs or more')
  }
  const fuzz = await cargoFuzz()
  if (values.again !== undefined) return again(fuzz, resolve(values.again))
  for (const target of targets) {
    await fuzzTarget(fuzz, target, Math.round(runs * target.share))
    if (values.keep) await keep(fuzz, target)
  }
})

async function fuzzTarget(fuzz, target, runs) {
  console.log(`\n=== ${target.name}: ${runs} inputs`)
  const found = folderOf('found', target)
  const failed = folderOf('failed', target)
  await fuzz(
    'run',
    target,
    [found, kept(target)],
    [
      `-runs=${runs}`,
      `-max_len=${target.mostBytes}`,
      // All of a page from the start: libFuzzer would come to its end only after hours.
      '-len_control=0',
      `-artifact_prefix=${failed}/`,
      // Seconds: a reader gives a page up after a tenth of one.
      '-timeout=60',
      '-print_final_stats=1',
    ],
  )
}

/** What reached something, here or before, and no more of it than is needed. */
async function keep(fuzz, target) {
  const found = folderOf('found', target)
  const fewest = folderOf('fewest', target)
  rmSync(fewest, { recursive: true })
  mkdirSync(fewest)
  // `cargo fuzz cmin` in the form that looks for a small set rather than for small inputs.
  await fuzz('run', target, [fewest, found, kept(target)], ['-set_cover_merge=1'])
  rmSync(kept(target), { recursive: true })
  cpSync(fewest, kept(target), { recursive: true })
  console.log(`kept of ${target.name}: ${readdirSync(fewest).length} inputs`)
}

async function again(fuzz, input) {
  const target = targets.find(({ name }) => name === basename(dirname(input)))
  if (target === undefined) {
    const names = targets.map(({ name }) => name).join(' or ')
    throw new CommandFailed('fuzz', [input], `lies in no folder of the name ${names}`)
  }
  await fuzz('run', target, [input], [])
}

/**
 * Replays what is kept in a build that counts, and says of each source file of the crate which lines that
 * reached none of.
 */
async function coverage() {
  const tools = await coverageTools()
  const test = ['test', '--quiet', '--package', 'vmclock', '--test', 'hostile_pages']
  const folder = join(workFolder, 'coverage')
  rmSync(folder, { recursive: true, force: true })
  const environment = {
    CARGO_TARGET_DIR: join(workFolder, 'target/coverage'),
    LLVM_PROFILE_FILE: join(folder, '%p.profraw'),
    RUSTFLAGS: '-C instrument-coverage',
  }
  const messages = await capture('cargo', [...test, '--no-run', '--message-format=json'], {
    env: environment,
  })
  const { executable } = messages
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line))
    .find(({ executable, target }) => executable && target.name === 'hostile_pages')
  await run(executable, ['what_the_fuzzer_kept', '--nocapture'], {
    env: environment,
    cwd: join(rootFolder, 'crate/core'),
  })
  const profile = join(folder, 'merged.profdata')
  const raw = readdirSync(folder).map((name) => join(folder, name))
  await capture(tools('llvm-profdata'), ['merge', '--sparse', '--output', profile, ...raw])
  const records = await capture(tools('llvm-cov'), [
    ...['export', '--format=lcov', '--instr-profile', profile, executable],
    ...['--sources', join(rootFolder, 'crate/core/src')],
  ])
  console.log('\n  lines  reached  file, and the lines that were not')
  for (const record of records.split('end_of_record').filter((record) => record.includes('SF:'))) {
    const file = relative(join(rootFolder, 'crate/core/src'), /^SF:(.*)$/m.exec(record)[1])
    const lines = [...record.matchAll(/^DA:(\d+),(\d+)/gm)].map(([, line, count]) => ({
      line: Number(line),
      isReached: count !== '0',
    }))
    const missed = lines.filter(({ isReached }) => !isReached).map(({ line }) => line)
    const percent = ((1 - missed.length / lines.length) * 100).toFixed(1)
    const shown = missed.length === lines.length ? 'all' : ranges(missed).join(' ')
    console.log(`${String(lines.length).padStart(7)} ${percent.padStart(7)}%  ${file}: ${shown}`)
  }
}

/** `llvm-profdata` and `llvm-cov` of the compiler's own LLVM: no other reads what it counts. */
async function coverageTools() {
  const [, major] = /^LLVM version: (\d+)/m.exec(await capture('rustc', ['--version', '--verbose']))
  const folder = await debianFolder({ name: 'coverage-tools', packages: [`llvm-${major}`] })
  return (name) => debianProgram(folder, `${name}-${major}`)
}

/** Numbers in order, as `from-to`. */
function ranges(numbers) {
  const found = []
  for (const number of numbers) {
    const last = found.at(-1)
    if (last?.at(-1) === number - 1) last[1] = number
    else found.push([number])
  }
  return found.map((range) => range.join('-'))
}

function folderOf(kind, target) {
  const folder = join(workFolder, kind, target.name)
  mkdirSync(folder, { recursive: true })
  return folder
}

function kept(target) {
  return join(fuzzFolder, 'corpus', target.name)
}

/** cargo-fuzz, in the cache: a function that runs it. */
async function cargoFuzz() {
  if (!(await succeeds('c++', ['--version']))) {
    throw new Unavailable('no C++ compiler for libFuzzer: install g++')
  }
  const folder = await cached('cargo-fuzz', { version }, (unfinished) =>
    capture('cargo', [
      ...['install', '--quiet', '--locked', '--root', unfinished],
      ...['cargo-fuzz', '--version', version],
    ]),
  )
  return (command, { name, sanitizer }, places, options) =>
    run(
      join(folder, 'bin/cargo-fuzz'),
      [
        ...['fuzz', command, '--fuzz-dir', fuzzFolder, '--sanitizer', sanitizer],
        // Each by itself: they share no object.
        ...['--target-dir', join(workFolder, 'target', sanitizer)],
        ...[name, ...places, '--', ...options],
      ],
      // Instrumentation is for nightly compilers; the one that is used is the caller's all the same.
      { env: { RUSTC_BOOTSTRAP: '1' } },
    )
}
