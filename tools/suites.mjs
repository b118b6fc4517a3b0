// All test suites. `node tools/test.mjs --list` prints them.
//
// A suite has these fields:
//   name
//   shows       one line for the list
//   long        describes the --long form, if there is one
//   within      the suite that includes the short form of this one
//   takesSeed   whether --seed N repeats a run
//   needs       describes what the machine must have besides Node, npm and Rust
//   missing     returns what the machine lacks, or undefined
//   setUp       builds the parts of the tree that the suite uses
//   run         runs the suite; gets { isLong, seed } and throws on a failure

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { checkInstructions } from '../benchmark/instructions.mjs'
import { testOnArm64 } from './aarch64.mjs'
import { checkAdapters } from './adapters.mjs'
import { ownKindName } from './addons.mjs'
import { capture, run, succeeds } from './command.mjs'
import { checkExamples } from './examples.mjs'
import { checkFfi } from './ffi.mjs'
import { checkFrameworks } from './frameworks.mjs'
import { checkLicences } from './licences.mjs'
import { checkMachineCode } from './machine-code.mjs'
import { checkManifests } from './manifests.mjs'
import { checkPrometheus } from './prometheus.mjs'
import { rustTestTargets } from './rust-tests.mjs'
import { setUp, setUpPackages } from './setup.mjs'
import { checkSite } from './site-links.mjs'
import { checkWorkflows } from './workflows.mjs'

const DEBIAN = 'Debian or Ubuntu on x86-64 (apt-get and dpkg-deb; no root)'

// Cargo packages that are no members of the workspace.
const OWN_WORKSPACES = ['benchmark/core', 'crate/clockbound', 'crate/fuzz']

/** The suites of `npm test`. The quickest to fail come first. */
const quickSuites = [
  {
    name: 'format',
    shows: 'rustfmt and Biome find nothing to change',
    setUp: setUpPackages,
    missing: () => missingCargo('fmt', 'rustfmt'),
    async run() {
      await run('cargo', ['fmt', '--all', '--check'])
      for (const directory of OWN_WORKSPACES) {
        await run('cargo', ['fmt', '--manifest-path', `${directory}/Cargo.toml`, '--check'])
      }
      await run('biome', ['check', '--error-on-warnings'])
    },
  },
  {
    name: 'language',
    shows: 'comments and docs keep the two rules of docs/style.md that a program can count',
    setUp: setUpPackages,
    run: () => run('node', ['tools/language.mjs']),
  },
  {
    name: 'lint',
    shows: 'clippy finds nothing to warn of',
    setUp: nothing,
    missing: () => missingCargo('clippy', 'clippy'),
    run: () => run('cargo', ['clippy', '--workspace', '--all-targets', '--', '-D', 'warnings']),
  },
  {
    name: 'types',
    shows: "the specs and examples type-check with the package's own declarations",
    setUp,
    run: () => run('tsc', ['--noEmit']),
  },
  {
    name: 'docs',
    shows: 'rustdoc and TypeDoc build without a warning, and no link of the site is broken',
    setUp,
    async run() {
      await run('cargo', ['doc', '--workspace', '--no-deps'], {
        env: { RUSTDOCFLAGS: '-D warnings' },
      })
      const site = mkdtempSync(join(tmpdir(), 'vmclock-site-'))
      try {
        await run('typedoc', ['--out', site])
        checkSite(site)
      } finally {
        rmSync(site, { recursive: true })
      }
    },
  },
  {
    name: 'rust',
    shows: 'the Rust tests of the core pass, with overflow checks',
    setUp: nothing,
    // `node` tests the glue through Node. `model` is a suite of its own.
    async run() {
      await run('cargo', ['test', '-p', 'vmclock', ...(await rustTestTargets())])
      await run('cargo', ['test', '-p', 'vmclock', '--doc'])
    },
  },
  {
    name: 'addon',
    shows: "the addon's own Rust tests pass, with a real OpenSSL",
    needs: 'libssl3',
    setUp: nothing,
    missing: missingOpenSsl,
    run: () => run('node', ['tools/addon-tests.mjs']),
  },
  {
    name: 'model',
    shows: 'the loom model checker accepts the read protocol and rejects each broken copy of it',
    long: 'any number of preemptions, more updates and more threads',
    setUp: nothing,
    run: ({ isLong }) =>
      run('node', ['tools/model.mjs'], { env: { VMCLOCK_MODEL: isLong ? 'long' : 'short' } }),
  },
  {
    name: 'node',
    shows: 'the specs of the npm package pass on this Node',
    setUp,
    run: () => run('ava', []),
  },
  {
    name: 'jest',
    shows: 'the package loads under Jest',
    setUp,
    run: () => run('jest', []),
  },
]

/** The suites that `npm run test:all` adds. */
const slowSuites = [
  {
    name: 'workflows',
    shows: 'actionlint accepts the workflows, they pin each action, and CI runs each suite',
    needs: 'Go',
    setUp: nothing,
    missing: missingGo,
    run: () => checkWorkflows(suites),
  },
  {
    name: 'manifests',
    shows: "Compose's loader, Kustomize and Kubernetes' types accept the files of deploy/",
    needs: 'Go',
    setUp: nothing,
    missing: missingGo,
    run: () => checkManifests(),
  },
  {
    name: 'prometheus',
    shows: "Prometheus' own programs accept metrics, alerts and dashboard, and scrape a page",
    long: 'a minute of scrapes',
    needs: DEBIAN,
    setUp,
    run: (options) => checkPrometheus(options),
  },
  {
    name: 'bench',
    shows: 'the benchmark finds each of its figures, and docs/performance.md has the last ones',
    setUp,
    async run() {
      await run('node', ['benchmark/main.mjs', '--check-docs'])
      // Without the core: its peers take a minute to build.
      await run('node', ['benchmark/main.mjs', '--quick', '--no-core'])
    },
  },
  {
    name: 'examples',
    shows: 'commit wait over PostgreSQL, a lease service and a capture keep their promises',
    long: '10,000 transactions three times, and four minutes of leases',
    setUp,
    run: (options) => checkExamples(options),
  },
  {
    name: 'frameworks',
    shows: 'simulated clocks work beside the fake timers of Jest, Vitest, sinon and node:test',
    setUp,
    run: () => checkFrameworks(),
  },
  {
    name: 'ffi',
    shows:
      'clocks whose calls go by FFI pass the specs in the newest Node, and work in Deno and Bun',
    setUp,
    run: () => checkFfi(),
  },
  {
    name: 'adapters',
    shows: 'the adapters work with the real libraries, in each major that is alive',
    setUp,
    run: () => checkAdapters(),
  },
  {
    name: 'packages',
    shows: 'the packed root package and this addon install, load, type-check and bundle',
    long: 'all five packages, on each supported Node, Deno and Bun, glibc and musl',
    needs: 'x86-64 with glibc; the long form: Debian or Ubuntu',
    setUp,
    missing: () =>
      ownKindName === 'linux-x64-gnu' ? undefined : `for linux-x64-gnu, and this is ${ownKindName}`,
    run: ({ isLong }) =>
      run('node', ['--test-reporter=spec', 'install/tests.mjs', ...(isLong ? ['--long'] : [])]),
  },
  {
    name: 'clockbound',
    shows: "ClockBound's memory is believed as its own clients believe it, or less",
    setUp: nothing,
    run: () => run('cargo', ['test', '--manifest-path', 'crate/clockbound/Cargo.toml']),
  },
  {
    name: 'machine-code',
    shows: 'the compiled reader has the right order of loads, no panic and few instructions',
    needs: DEBIAN,
    setUp: nothing,
    async run() {
      await checkMachineCode()
      await checkInstructions()
    },
  },
  {
    name: 'aarch64',
    shows: 'the Rust tests and the specs pass on emulated aarch64',
    needs: DEBIAN,
    setUp,
    run: () => testOnArm64(),
  },
  {
    name: 'guests',
    shows: 'the package works with the Linux driver, in emulated x86-64 and aarch64 guests',
    long: 'more pages, migrations and notifications, and a minute of rest',
    takesSeed: true,
    needs: DEBIAN,
    setUp,
    run: ({ isLong, seed }) =>
      run('node', ['rig/tests.mjs', ...(isLong ? ['--long'] : [])], {
        env: environment({ VMCLOCK_HOSTILE_SEED: seed }),
      }),
  },
]

/** Suites that run only by name: they take long, or compare what no single change can break. */
const namedSuites = [
  {
    name: 'licences',
    shows: 'cargo-deny accepts the dependencies (installing it takes minutes)',
    setUp: nothing,
    run: () => checkLicences(),
  },
  {
    name: 'fleet',
    shows: "a simulated fleet's true time lies within every bound: 10⁶ readings",
    long: '10⁸ readings',
    within: 'rust',
    takesSeed: true,
    setUp: nothing,
    run: ({ isLong, seed }) =>
      run('cargo', ['test', '--release', '-p', 'vmclock', '--test', 'fleet', '--', '--nocapture'], {
        env: environment({
          VMCLOCK_FLEET_READINGS: isLong ? '100000000' : undefined,
          VMCLOCK_FLEET_SEED: seed,
        }),
      }),
  },
  {
    name: 'boundary',
    shows: 'no value that a program passes crashes the addon: 2,000 calls',
    long: '10⁵ calls',
    within: 'node',
    takesSeed: true,
    setUp,
    run: ({ isLong, seed }) =>
      run('ava', ['--timeout=2h', '__test__/boundary.spec.ts'], {
        env: environment({
          VMCLOCK_BOUNDARY_CASES: isLong ? '100000' : undefined,
          VMCLOCK_BOUNDARY_SEED: seed,
        }),
      }),
  },
  {
    name: 'ordering',
    shows: 'no wait ends early, and no order contradicts the truth: 200 waits, 20,000 pairs',
    long: '10⁴ waits, 10⁷ pairs',
    within: 'node',
    takesSeed: true,
    setUp,
    run: ({ isLong, seed }) =>
      run(
        'ava',
        ['--timeout=2h', '__test__/ordering-waits.spec.ts', '__test__/simulated-fleet.spec.ts'],
        {
          env: environment({
            VMCLOCK_ORDERING_WAITS: isLong ? '10000' : undefined,
            VMCLOCK_ORDERING_PAIRS: isLong ? '10000000' : undefined,
            VMCLOCK_ORDERING_SEED: seed,
          }),
        },
      ),
  },
  {
    name: 'faults',
    shows: 'readers never see a wrong time when publishers are killed: 50 kills',
    long: '1,000 kills',
    within: 'node',
    setUp,
    run: ({ isLong }) =>
      run('ava', ['--timeout=1h', '__test__/dying-writer.spec.ts'], {
        env: environment({ VMCLOCK_FAULTS_KILLS: isLong ? '1000' : undefined }),
      }),
  },
  {
    name: 'fuzz',
    shows: 'libFuzzer finds no page that is read or taken over wrongly: 10⁶ inputs',
    long: '10⁷ inputs',
    takesSeed: true,
    needs: 'a C++ compiler',
    setUp: nothing,
    run: ({ isLong, seed }) =>
      run('node', [
        'tools/fuzz.mjs',
        ...(isLong ? ['--long'] : []),
        ...(seed === undefined ? [] : ['--seed', seed]),
      ]),
  },
  {
    name: 'sanitizers',
    shows: 'the address and thread sanitizers report nothing but a planted bug',
    needs: 'Rust from rustup; rust-src, or Debian or Ubuntu on x86-64; libssl3',
    setUp: nothing,
    run: () => run('node', ['tools/sanitizers.mjs']),
  },
  {
    name: 'clones',
    shows:
      'clones share no random value, in the oldest and the newest Node: 5 rounds of 1,000 values',
    long: '50 rounds on x86-64 and 10 on aarch64',
    needs: DEBIAN,
    setUp,
    run: ({ isLong }) =>
      run('node', ['rig/tests.mjs', '--long', 'protected-clones'], {
        env: { VMCLOCK_CLONES_ROUNDS: isLong ? '50' : '5' },
      }),
  },
  {
    name: 'soak',
    shows: 'threads and workers read no torn time beside a busy writer: two minutes',
    long: 'an hour',
    setUp,
    run: ({ isLong }) => run('node', ['tools/soak.mjs', ...(isLong ? ['--long'] : [])]),
  },
  {
    name: 'slew',
    shows: 'no bound is false while a guest slews and steps its clock: a quarter of an hour',
    long: 'an hour',
    needs: `${DEBIAN}, with no other load`,
    setUp,
    run: ({ isLong }) =>
      run('node', ['rig/tests.mjs', ...(isLong ? ['--long'] : []), 'x86-64', 'slewed'], {
        env: { VMCLOCK_SLEW: '1' },
      }),
  },
]

/** Each group of suites, with the command that runs it. */
export const groups = [
  { command: 'npm test', suites: quickSuites },
  { command: 'npm run test:all', suites: slowSuites },
  { command: 'node tools/test.mjs SUITE', suites: namedSuites },
]

/** All suites, in the order in which they run. */
export const suites = groups.flatMap((group) => group.suites)

function nothing() {}

/** Leaves out what is undefined, so that the caller's own variables stay in force. */
function environment(variables) {
  return Object.fromEntries(Object.entries(variables).filter(([, value]) => value !== undefined))
}

async function missingOpenSsl() {
  const libraries = await capture('ldconfig', ['-p']).catch(() => '')
  return libraries.includes('libcrypto.so.3') ? undefined : 'no libcrypto.so.3: install libssl3'
}

async function missingGo() {
  return (await succeeds('go', ['version'])) ? undefined : 'no go: install golang-go'
}

async function missingCargo(subcommand, component) {
  if (await succeeds('cargo', [subcommand, '--version'])) return undefined
  return `no cargo ${subcommand}: rustup component add ${component}`
}
