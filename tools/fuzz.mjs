#!/usr/bin/env node
// Fuzzes the reader with libFuzzer, by whatever reaches more of it, and holds each answer against the
// big-integer model of the Rust tests.
//
//   node tools/fuzz.mjs                ten million inputs
//   node tools/fuzz.mjs --short        a hundred thousand
//   node tools/fuzz.mjs --runs N       N
//   node tools/fuzz.mjs --keep         afterwards crate/fuzz/corpus is what reached something, minimized
//
// What is kept there, `npm test -- rust` runs without any of this. What failed lies in target/fuzz/failed;
// `node tools/fuzz.mjs --again FILE` runs one of these once more.

import { cpSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
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

const version = '0.13.2'

// `read` runs no unsafe code at all: its page is the harness's. What a sanitizer would cost there, nine
// tenths of the inputs, is better spent on inputs; `npm run test:sanitizers` runs what is kept of them
// under one. `open` maps a file.
const targets = [
  { name: 'read', sanitizer: 'none', share: 0.89, mostBytes: 182 },
  { name: 'takeover', sanitizer: 'none', share: 0.1, mostBytes: 190 },
  { name: 'open', sanitizer: 'address', share: 0.01, mostBytes: 160 },
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
    },
  })
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
