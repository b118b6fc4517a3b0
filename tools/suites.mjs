// The suites of `npm test`, in the order in which they run: what fails soonest comes first.
//
// A suite is `name`, `setUp` (what of the tree it needs), `run`, and perhaps `needs`: what it asks of
// the machine, which answers with nothing or with the words that say what is missing. One that is
// `byNameOnly` is for releases: it builds and fetches for longer than every change can wait.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { checkInstructions } from '../benchmark/instructions.mjs'
import { testGuests } from '../rig/tests.mjs'
import { testOnArm64 } from './aarch64.mjs'
import { ownKindName } from './addons.mjs'
import { CommandFailed, run, succeeds } from './command.mjs'
import { checkLicences } from './licences.mjs'
import { checkMachineCode } from './machine-code.mjs'
import { rustTestTargets } from './rust-tests.mjs'
import { setUp, setUpPackages } from './setup.mjs'
import { checkSite } from './site-links.mjs'
import { checkWorkflows } from './workflows.mjs'

/** Every suite. */
export const suites = [
  {
    name: 'format',
    setUp: setUpPackages,
    needs: () => cargoComponent('fmt', 'rustfmt'),
    async run() {
      await run('cargo', ['fmt', '--all', '--check'])
      for (const own of ['benchmark/core', 'crate/fuzz']) {
        await run('cargo', ['fmt', '--manifest-path', `${own}/Cargo.toml`, '--check'])
      }
      await run('biome', ['check', '--error-on-warnings'])
    },
  },
  {
    name: 'lint',
    setUp: nothing,
    needs: () => cargoComponent('clippy', 'clippy'),
    run: () => run('cargo', ['clippy', '--workspace', '--all-targets', '--', '-D', 'warnings']),
  },
  {
    name: 'types',
    // The specs are checked against the package's own declarations, as a user's code would be.
    setUp,
    run: () => run('tsc', ['--noEmit']),
  },
  {
    name: 'docs',
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
    name: 'workflows',
    setUp: nothing,
    needs: async () =>
      (await succeeds('go', ['version'])) ? undefined : 'no go: install golang-go',
    run: () => checkWorkflows(suites.map(({ name }) => name)),
  },
  {
    name: 'licences',
    byNameOnly: true,
    setUp: nothing,
    run: () => checkLicences(),
  },
  {
    name: 'rust',
    setUp: nothing,
    // The dev profile checks every addition for overflow. The glue is
    // tested through Node, by the `node` suite. The model has a suite of its own, in the release profile.
    async run() {
      await run('cargo', ['test', '-p', 'vmclock', ...(await rustTestTargets())])
      await run('cargo', ['test', '-p', 'vmclock', '--doc'])
    },
  },
  {
    name: 'model',
    setUp: nothing,
    run: () => run('node', ['tools/model.mjs', '--short']),
  },
  {
    name: 'node',
    setUp,
    run: () => run('ava', []),
  },
  {
    name: 'bench',
    // Only that the benchmark runs and finds a figure for each of its rows, and that the docs say what it
    // found when it last ran in full; the core's peers take too long to build.
    setUp,
    async run() {
      await run('node', ['benchmark/main.mjs', '--check-docs'])
      await run('node', ['benchmark/main.mjs', '--quick', '--no-core'])
    },
  },
  {
    name: 'jest',
    setUp,
    run: () => run('jest', []),
  },
  {
    name: 'packages',
    setUp,
    // What they say of other machines is said on one of these.
    needs: () =>
      ownKindName === 'linux-x64-gnu' ? undefined : `for linux-x64-gnu, and this is ${ownKindName}`,
    run: () => run('node', ['--test-reporter=spec', 'install/tests.mjs', '--short']),
  },
  {
    name: 'machine-code',
    setUp: nothing,
    async run() {
      await checkMachineCode()
      await checkInstructions()
    },
  },
  {
    name: 'aarch64',
    setUp,
    run: () => testOnArm64(),
  },
  {
    name: 'guests',
    setUp,
    async run() {
      const { failed } = await testGuests({ isShort: true })
      if (failed > 0)
        throw new CommandFailed('node', ['rig/tests.mjs', '--short'], `${failed} failed`)
    },
  },
]

function nothing() {}

async function cargoComponent(subcommand, component) {
  if (await succeeds('cargo', [subcommand, '--version'])) return undefined
  return `no cargo ${subcommand}: rustup component add ${component}`
}
