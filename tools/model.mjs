#!/usr/bin/env node
// Shows that the model of the read protocol and of the guard can fail: it passes on the sources as they are, and
// fails on every copy that lacks one part of the protocol.
//
//   node tools/model.mjs            the sources in the form that VMCLOCK_MODEL says; all mutants
//   node tools/model.mjs --short    the sources in the short form; all mutants
//
// Mutants always run the short form, because `npm test` runs that. It must be able to see a missing fence.

import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

const PROJECT = dirname(dirname(fileURLToPath(import.meta.url)))
const TARGET = join(PROJECT, 'target', 'model')
const COPIES = join(TARGET, 'copies')
/** The core, and the crate that its tests depend on. */
const CRATES = [join('crate', 'core'), join('crate', 'testkit')]
const SEQLOCK = join('crate', 'core', 'src', 'seqlock.rs')
const READER_GUARD = join('crate', 'core', 'src', 'clock', 'guard.rs')
const MAKER_GUARD = join('crate', 'core', 'src', 'publish', 'guard.rs')

/** Matches the messages of the model's assertions. A failure without one is a defect of the model. */
const REJECTED = /^TORN: .*$/m

/** The writer's part of the source begins with the first of these functions. */
const WRITER = ['begin', 'write']

const LAST_LOOK = 'memory.load_seq() == seq'
const BOTH_CURRENT = 'page.is_current() && guard.is_current()'
const FIELDS = 'let head = memory.load_head();'
const COUNTER = 'let now = counter.read();'
const ACQUIRE = 'memory.fence_acquire();'
const RELEASE = 'memory.fence_release();'
const ODD = 'memory.store_seq(odd);'

/**
 * Each mutant removes one part of the protocol, in the seqlock or in `file`. `inside` names the function. Each edit's `find` must occur there
 * `of` times (default once), of which the `nth` is replaced (default the first).
 */
const MUTANTS = [
  {
    name: 'reader without the fence before the fields',
    inside: ['read_loop'],
    edits: [{ find: ACQUIRE, nth: 1, of: 2, replace: '' }],
  },
  {
    name: 'reader without the fence before the second load of seq',
    inside: ['read_loop'],
    edits: [{ find: ACQUIRE, nth: 2, of: 2, replace: '' }],
  },
  {
    name: 'reader whose second load of seq comes before the fields',
    inside: ['read_loop'],
    edits: [
      { find: LAST_LOOK, replace: 'still' },
      { find: FIELDS, replace: `let still = ${LAST_LOOK}; ${FIELDS}` },
    ],
  },
  {
    name: 'reader that never loads seq again',
    inside: ['read_loop'],
    edits: [{ find: LAST_LOOK, replace: 'true' }],
  },
  {
    name: 'reader that takes odd numbers too',
    inside: ['read_loop'],
    edits: [{ find: 'seq & 1 == 0', replace: 'true' }],
  },
  {
    name: 'reader whose counter comes before the first load of seq',
    inside: ['read_loop'],
    edits: [
      { find: COUNTER, replace: 'let now = early;' },
      {
        find: 'let seq = memory.load_seq();',
        replace: 'let early = counter.read(); let seq = memory.load_seq();',
      },
    ],
  },
  {
    name: 'reader whose counter comes after the second load of seq',
    inside: ['read_loop'],
    edits: [
      { find: COUNTER, replace: '' },
      { find: 'counter: now', replace: 'counter: counter.read()' },
    ],
  },
  {
    name: 'cache without its fence',
    inside: ['counter_if_unchanged'],
    edits: [{ find: `page.${ACQUIRE}`, replace: '' }],
  },
  {
    name: 'cache compared before the counter is read',
    inside: ['counter_if_unchanged'],
    edits: [
      { find: 'page.is_current()', replace: 'still' },
      { find: COUNTER, replace: `let still = page.is_current(); ${COUNTER}` },
    ],
  },
  {
    name: 'device looked at before the counter',
    inside: ['counter_if_unchanged'],
    edits: [
      { find: BOTH_CURRENT, replace: 'page.is_current() && still' },
      { find: COUNTER, replace: `let still = guard.is_current(); ${COUNTER}` },
    ],
  },
  {
    name: 'cache of a guarded page used without a look at the device',
    inside: ['counter_if_unchanged'],
    edits: [{ find: `(${BOTH_CURRENT})`, replace: 'page.is_current()' }],
  },
  {
    name: 'token checked without a fence',
    inside: ['both_unchanged'],
    edits: [{ find: `page.${ACQUIRE}`, replace: '' }],
  },
  {
    name: 'token of a guarded page checked without a look at the device',
    inside: ['both_unchanged'],
    edits: [{ find: BOTH_CURRENT, replace: 'page.is_current()' }],
  },
  {
    name: 'reader whose counter comes before its look at the device',
    inside: ['read_guarded'],
    edits: [
      {
        find: 'of_guard.map_or(of_page.counter, |of_guard| of_guard.counter)',
        replace: 'of_page.counter',
      },
    ],
  },
  {
    name: 'reader that never looks at the page again after the device',
    inside: ['read_guarded'],
    edits: [{ find: 'unchanged(page, of_page.seq)', replace: 'true' }],
  },
  {
    name: 'reader that does not compare the marker',
    file: READER_GUARD,
    inside: ['judge'],
    edits: [{ find: '(state != record)', replace: 'false' }],
  },
  {
    name: 'reader that keeps the marker of the page from before',
    file: READER_GUARD,
    inside: ['judge'],
    edits: [{ find: 'moved_by(page, &record, &device)', replace: 'page' }],
  },
  {
    name: 'reader that takes a stuck device for an unchanged one',
    file: READER_GUARD,
    inside: ['judge'],
    edits: [{ find: 'Some(NoBound::DeviceStuck)', replace: 'None' }],
  },
  {
    name: "maker's record written outside the update",
    inside: WRITER,
    edits: [
      { find: 'memory.store_extension(&extension(after(odd)));', replace: '' },
      {
        find: 'let odd = begin(memory);',
        nth: 2,
        of: 2,
        replace:
          'memory.store_extension(&extension(after(memory.load_seq() | 1))); let odd = begin(memory);',
      },
    ],
  },
  {
    name: 'maker that looks at the device only after the sample',
    file: MAKER_GUARD,
    inside: ['sample_between_looks'],
    edits: [
      { find: 'if maker.look() {\n        maker.follow();\n    }', replace: '' },
      {
        find: 'if !maker.look() {\n            break;\n        }',
        replace: 'maker.look(); break;',
      },
    ],
  },
  {
    name: 'writer without the fence after the odd number',
    inside: WRITER,
    edits: [{ find: RELEASE, nth: 1, of: 2, replace: '' }],
  },
  {
    name: 'writer without the fence before the even number',
    inside: WRITER,
    edits: [{ find: RELEASE, nth: 2, of: 2, replace: '' }],
  },
  {
    name: 'writer that stores the fields before seq is odd',
    inside: WRITER,
    edits: [
      { find: ODD, replace: '' },
      {
        find: 'memory.store_words(words);',
        nth: 1,
        of: 2,
        replace: `memory.store_words(words); ${ODD}`,
      },
    ],
  },
  {
    name: 'writer that never makes seq odd',
    inside: WRITER,
    edits: [{ find: ODD, replace: '' }],
  },
  {
    name: 'writer that takes an odd number over by making it even at once',
    inside: WRITER,
    edits: [{ find: 'memory.load_seq() | 1', replace: 'memory.load_seq().wrapping_add(1)' }],
  },
]

/** Returns the part of the source that a mutant may change: one function, or the writer's half. */
function part(source, inside) {
  const starts = inside.map((name) => source.search(new RegExp(`^(pub )?fn ${name}\\b`, 'm')))
  const start = Math.min(...starts.filter((at) => at >= 0))
  if (!Number.isFinite(start)) throw new Error(`there is no function ${inside.join(' or ')}`)
  if (inside === WRITER) return [start, source.length]
  const end = source.indexOf('\n}\n', start)
  if (end < 0) throw new Error(`function ${inside[0]} has no end`)
  return [start, end]
}

function mutate(source, { name, inside, edits }) {
  const [start, end] = part(source, inside)
  let text = source.slice(start, end)
  for (const { find, replace, nth = 1, of = 1 } of edits) {
    const pieces = text.split(find)
    if (pieces.length - 1 !== of) {
      throw new Error(
        `mutant "${name}": \`${find}\` occurs ${pieces.length - 1} times in ${inside.join('/')}, not ${of}`,
      )
    }
    text = pieces.slice(0, nth).join(find) + replace + pieces.slice(nth).join(find)
  }
  return source.slice(0, start) + text + source.slice(end)
}

/** Writes a file only if it differs, so that cargo builds only what changed since the last run. */
function put(path, content) {
  try {
    if (readFileSync(path).equals(Buffer.from(content))) return
  } catch {
    mkdirSync(dirname(path), { recursive: true })
  }
  writeFileSync(path, content)
}

function files(directory) {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(PROJECT, join(entry.parentPath ?? entry.path, entry.name)))
}

/** Copies a crate into a directory, with the text of `changed` in place of the files that it names. */
function copyCrate(crate, directory, changed) {
  // All of the crate, although only the model is built, because the manifest names the other tests.
  const wanted = files(join(PROJECT, crate))
  for (const path of wanted) {
    put(join(directory, path), changed.get(path) ?? readFileSync(join(PROJECT, path)))
  }
  // A file that the project no longer has must not stay in the copy.
  for (const path of readdirSync(join(directory, crate), {
    recursive: true,
    withFileTypes: true,
  })) {
    const here = join(path.parentPath ?? path.path, path.name)
    if (path.isFile() && !wanted.includes(relative(directory, here))) rmSync(here)
  }
}

/** Makes a workspace of the core crate alone, with the text of `changed` in place of the files that it names. */
function copy(slug, changed = new Map()) {
  const directory = join(COPIES, slug)
  // Cargo distinguishes packages of one name in one target directory by their versions, not by their
  // workspaces. Without a version of its own a copy would run the program of another.
  const manifest = readFileSync(join(PROJECT, 'Cargo.toml'), 'utf8')
    .replace(/^members = .*$/m, 'members = ["crate/core"]')
    .replace(/^version = "([^"-]*).*"$/m, `version = "$1-${slug}"`)
  if (!manifest.includes('members = ["crate/core"]') || !manifest.includes(`-${slug}"`)) {
    throw new Error('Cargo.toml: no line of members or no version to replace')
  }
  put(join(directory, 'Cargo.toml'), manifest)
  for (const crate of CRATES) copyCrate(crate, directory, changed)
  // Cargo removes from the copy what only the other crates need.
  cpSync(join(PROJECT, 'Cargo.lock'), join(directory, 'Cargo.lock'))
  return directory
}

const programs = new Set()

/** Builds the model of a copy, and returns the path of its program. */
function build(directory) {
  const cargo = spawnSync(
    'cargo',
    [
      'test',
      '--package',
      'vmclock',
      '--test',
      'model',
      '--no-run',
      '--message-format',
      'json-render-diagnostics',
    ],
    {
      cwd: directory,
      encoding: 'utf8',
      maxBuffer: 1 << 28,
      env: {
        ...process.env,
        CARGO_TARGET_DIR: TARGET,
        // Debug information would take most of the time to link, and the model does not need it.
        CARGO_PROFILE_DEV_DEBUG: '0',
        CARGO_PROFILE_TEST_DEBUG: '0',
        RUSTFLAGS: '',
      },
    },
  )
  if (cargo.error) throw cargo.error
  if (cargo.status !== 0) throw new Error(`it does not compile:\n${cargo.stderr}`)
  const built = cargo.stdout
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line))
    .find(
      (message) =>
        message.reason === 'compiler-artifact' &&
        message.target.name === 'model' &&
        message.executable,
    )
  if (!built) throw new Error('cargo named no program for the model')
  if (programs.has(built.executable))
    throw new Error(`${built.executable} is another copy's program`)
  programs.add(built.executable)
  return built.executable
}

function run(program, form) {
  const started = process.hrtime.bigint()
  const { status, signal, stdout, stderr, error } = spawnSync(
    program,
    ['--nocapture', '--test-threads', '1'],
    {
      encoding: 'utf8',
      maxBuffer: 1 << 28,
      env: { ...process.env, VMCLOCK_MODEL: form, RUST_BACKTRACE: '0' },
    },
  )
  if (error) throw error
  const seconds = Number(process.hrtime.bigint() - started) / 1e9
  return { status, signal, output: `${stdout}\n${stderr}`, seconds }
}

let passed = 0
let failed = 0

function trial(name, body) {
  try {
    const note = body()
    passed += 1
    console.log(`ok    ${name}${note}`)
  } catch (error) {
    failed += 1
    console.log(`FAIL  ${name}: ${error.message}`)
  }
}

const short = process.argv.includes('--short')
const form = short ? 'short' : (process.env.VMCLOCK_MODEL ?? 'short')

trial(`the sources as they are, ${form} form`, () => {
  const { status, signal, output, seconds } = run(build(copy('unmutated')), form)
  for (const [, line] of output.matchAll(/(?:^|\.\.\. )model: (.*executions explored.*)$/gm)) {
    console.log(`      ${line}`)
  }
  if (status !== 0) throw new Error(`the model rejects it (${signal ?? status}):\n${output}`)
  const explored = [...output.matchAll(/ (\d+) executions explored/g)].reduce(
    (sum, [, n]) => sum + Number(n),
    0,
  )
  if (explored === 0) throw new Error('the model explored nothing')
  return `: ${explored} executions explored in ${seconds.toFixed(1)} s`
})

for (const mutant of MUTANTS) {
  trial(mutant.name, () => {
    const slug = mutant.name.replaceAll(/[^a-z]+/g, '-')
    const { file = SEQLOCK } = mutant
    const changed = mutate(readFileSync(join(PROJECT, file), 'utf8'), mutant)
    const { status, signal, output } = run(build(copy(slug, new Map([[file, changed]]))), 'short')
    if (status === 0) throw new Error('the model does not see it')
    const said = output.match(REJECTED)
    if (!said)
      throw new Error(
        `it fails, but not by what the model asserts (${signal ?? status}):\n${output}`,
      )
    const models = [...output.matchAll(/^ {4}([a-z_]+)$/gm)].map(([, test]) => test)
    return `: rejected by ${new Set(models).size || 1} of the models\n      ${said[0]}`
  })
}

console.log(`${passed} passed, ${failed} failed`)
process.exitCode = failed === 0 ? 0 : 1
