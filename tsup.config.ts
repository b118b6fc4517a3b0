import type { Options } from 'tsup'

const shared: Options = {
  format: ['cjs'],
  target: 'node20',
  platform: 'node',
  outDir: 'dist',
  splitting: false,
  // tools/setup.mjs empties dist/: two builds that each clean it would erase one another.
  clean: false,
  // Required at run time: npm installs the one that fits the machine.
  external: [/^vmclock-linux-/],
}

const builds: Options[] = [
  { ...shared, entry: { index: 'ts/index.ts' }, dts: true },
  // The package has no run-time dependency: what the command line uses is bundled into it.
  { ...shared, entry: { cli: 'ts/cli.ts' }, noExternal: ['commander', 'picocolors'] },
]

export default builds
