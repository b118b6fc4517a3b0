#!/usr/bin/env node
// Fuzzes the reader and the publisher's takeover with libFuzzer, and compares each answer with the
// big-integer model of the Rust tests.
//
//   node tools/fuzz.mjs                  1,000,000 inputs
//   node tools/fuzz.mjs --long           10,000,000 inputs
//   node tools/fuzz.mjs --runs N         N inputs
//   node tools/fuzz.mjs --seed N         with this seed, to repeat a run
//   node tools/fuzz.mjs --minimize       then writes the smallest set with the same coverage to the corpus
//   node tools/fuzz.mjs --coverage       lists the lines of the crate that the corpus does not reach
//   node tools/fuzz.mjs --again FILE     runs one input of target/fuzz/failed again
//
// The corpus is crate/fuzz/corpus/TARGET.tar.gz. The Rust test `hostile_pages` replays it.

import { mkdirSync, readdirSync, rmSync } from 'node:fs'
import { basename, dirname, join, relative, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { cached } from './cache.mjs'
import {
  asProgram,
  CommandFailed,
  capture,
  rootDirectory,
  run,
  succeeds,
  Unavailable,
} from './command.mjs'
import { debianDirectory, debianProgram } from './debian.mjs'

const version = '0.13.2'

// `read` runs no unsafe code, because the harness owns the page. A sanitizer there would cost nine tenths
// of the inputs; the `sanitizers` suite replays the corpus under one. `open` maps a file. `takeover` takes
// four times as long as `read`, because it starts a publisher for some of its inputs.
const targets = [
  { name: 'read', sanitizer: 'none', share: 0.88, mostBytes: 182 },
  { name: 'takeover', sanitizer: 'none', share: 0.1, mostBytes: 190 },
  { name: 'open', sanitizer: 'address', share: 0.02, mostBytes: 160 },
]

const fuzzDirectory = join(rootDirectory, 'crate/fuzz')
const workDirectory = join(rootDirectory, 'target/fuzz')

await asProgram(import.meta.url, async (words) => {
  const { values } = parseArgs({
    args: words,
    options: {
      long: { type: 'boolean' },
      runs: { type: 'string' },
      seed: { type: 'string' },
      minimize: { type: 'boolean' },
      again: { type: 'string' },
      coverage: { type: 'boolean' },
    },
  })
  if (values.coverage) return coverage()
  if (values.again !== undefined) return again(await cargoFuzz(), resolve(values.again))
  const runs = Number(values.runs ?? (values.long ? 10_000_000 : 1_000_000))
  if (!Number.isSafeInteger(runs) || runs < 10) {
    throw new CommandFailed('fuzz', words, '--runs takes 10 or more')
  }
  const fuzz = await cargoFuzz()
  for (const target of targets) {
    await fuzzTarget(fuzz, target, Math.round(runs * target.share), values.seed)
    if (values.minimize) await minimize(fuzz, target)
  }
})

async function fuzzTarget(fuzz, target, runs, seed) {
  console.log(`\n=== ${target.name}: ${runs} inputs`)
  const found = directoryOf('found', target)
  const failed = directoryOf('failed', target)
  await fuzz(
    'run',
    target,
    [found, await unpackedCorpus(target)],
    [
      `-runs=${runs}`,
      `-max_len=${target.mostBytes}`,
      // Whole pages from the start: libFuzzer would reach that length only after hours.
      '-len_control=0',
      `-artifact_prefix=${failed}/`,
      // Seconds. A reader gives up on a page after 0.1 s.
      '-timeout=60',
      '-print_final_stats=1',
      ...(seed === undefined ? [] : [`-seed=${seed}`]),
    ],
  )
}

/** Replaces the corpus by the smallest set of inputs, old and new, with the same coverage. */
async function minimize(fuzz, target) {
  const fewest = emptyDirectoryOf('fewest', target)
  // `cargo fuzz cmin`, in the form that minimizes the number of inputs instead of their lengths.
  await fuzz(
    'run',
    target,
    [fewest, directoryOf('found', target), await unpackedCorpus(target)],
    ['-set_cover_merge=1'],
  )
  await packCorpus(target, fewest)
  console.log(`corpus of ${target.name}: ${readdirSync(fewest).length} inputs`)
}

async function again(fuzz, input) {
  const target = targets.find(({ name }) => name === basename(dirname(input)))
  if (target === undefined) {
    const names = targets.map(({ name }) => name).join(' or ')
    throw new CommandFailed('fuzz', [input], `must be in a directory named ${names}`)
  }
  await fuzz('run', target, [input], [])
}

/** Replays the corpus in an instrumented build, and lists the lines of each source file not reached. */
async function coverage() {
  const tools = await coverageTools()
  const test = ['test', '--quiet', '--package', 'vmclock', '--test', 'hostile_pages']
  const directory = join(workDirectory, 'coverage')
  rmSync(directory, { recursive: true, force: true })
  const environment = {
    CARGO_TARGET_DIR: join(workDirectory, 'target/coverage'),
    LLVM_PROFILE_FILE: join(directory, '%p.profraw'),
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
  await run(executable, ['the_fuzz_corpus', '--nocapture'], {
    env: environment,
    cwd: join(rootDirectory, 'crate/core'),
  })
  const profile = join(directory, 'merged.profdata')
  const raw = readdirSync(directory).map((name) => join(directory, name))
  await capture(tools('llvm-profdata'), ['merge', '--sparse', '--output', profile, ...raw])
  const records = await capture(tools('llvm-cov'), [
    ...['export', '--format=lcov', '--instr-profile', profile, executable],
    ...['--sources', join(rootDirectory, 'crate/core/src')],
  ])
  console.log('\n  lines  reached  file: lines not reached')
  for (const record of records.split('end_of_record').filter((record) => record.includes('SF:'))) {
    const file = relative(join(rootDirectory, 'crate/core/src'), /^SF:(.*)$/m.exec(record)[1])
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

/** `llvm-profdata` and `llvm-cov` of the compiler's LLVM version: the profile format differs by version. */
async function coverageTools() {
  const [, major] = /^LLVM version: (\d+)/m.exec(await capture('rustc', ['--version', '--verbose']))
  const directory = await debianDirectory({ name: 'coverage-tools', packages: [`llvm-${major}`] })
  return (name) => debianProgram(directory, `${name}-${major}`)
}

/** Joins sorted numbers into ranges, as `from-to`. */
function ranges(numbers) {
  const found = []
  for (const number of numbers) {
    const last = found.at(-1)
    if (last?.at(-1) === number - 1) last[1] = number
    else found.push([number])
  }
  return found.map((range) => range.join('-'))
}

function directoryOf(kind, target) {
  const directory = join(workDirectory, kind, target.name)
  mkdirSync(directory, { recursive: true })
  return directory
}

function emptyDirectoryOf(kind, target) {
  rmSync(directoryOf(kind, target), { recursive: true })
  return directoryOf(kind, target)
}

function corpusArchive({ name }) {
  return join(fuzzDirectory, 'corpus', `${name}.tar.gz`)
}

async function unpackedCorpus(target) {
  const directory = emptyDirectoryOf('corpus', target)
  await capture('tar', ['-xzf', corpusArchive(target), '-C', directory])
  return directory
}

/** Packs the inputs in `directory`. The same inputs always give the same archive. */
async function packCorpus(target, directory) {
  await capture('tar', [
    ...['--create', '--format=ustar', '--sort=name', '--mtime=@0', '--mode=0644'],
    ...['--owner=0', '--group=0', '--numeric-owner', '--use-compress-program=gzip -n -9'],
    ...['--file', corpusArchive(target), '--directory', directory],
    ...readdirSync(directory).sort(),
  ])
}

/** Installs cargo-fuzz into the cache and returns a function that runs it. */
async function cargoFuzz() {
  if (!(await succeeds('c++', ['--version']))) {
    throw new Unavailable('no C++ compiler for libFuzzer: install g++')
  }
  const directory = await cached('cargo-fuzz', { version }, (unfinished) =>
    capture('cargo', [
      ...['install', '--quiet', '--locked', '--root', unfinished],
      ...['cargo-fuzz', '--version', version],
    ]),
  )
  return (command, { name, sanitizer }, places, options) =>
    run(
      join(directory, 'bin/cargo-fuzz'),
      [
        ...['fuzz', command, '--fuzz-dir', fuzzDirectory, '--sanitizer', sanitizer],
        // One directory for each sanitizer, because their objects differ.
        ...['--target-dir', join(workDirectory, 'target', sanitizer)],
        ...[name, ...places, '--', ...options],
      ],
      // Lets the stable compiler use instrumentation flags.
      { env: { RUSTC_BOOTSTRAP: '1' } },
    )
}
