import { existsSync, readFileSync } from 'node:fs'
import { basename, dirname, join, relative } from 'node:path'
import type { Options } from 'tsup'

type Plugin = NonNullable<Options['esbuildPlugins']>[number]

const sources = join(__dirname, 'ts')

/** The package's entry points: the file in dist/, and its source in ts/. */
const entryPoints = {
  index: 'index.ts',
  ptp: 'ptp.ts',
  doctor: 'doctor/index.ts',
  ordering: 'ordering/index.ts',
  metrics: 'metrics/index.ts',
  testing: 'testing/index.ts',
  clones: 'clones/index.ts',
  'clones-protect': 'clones-protect.ts',
  opentelemetry: 'adapters/opentelemetry/index.ts',
  'opentelemetry-register': 'adapters/opentelemetry-register.ts',
  effect: 'adapters/effect.ts',
  pino: 'adapters/pino.ts',
}

/** Every file that is built. The modules directly in ts/ that are not listed here form `shared`. */
const built: Readonly<Record<string, string>> = {
  ...entryPoints,
  shared: 'shared.ts',
  adapter: 'adapters/adapter.ts',
  cli: 'cli.ts',
}

// Each module becomes part of one built file only. Two copies of a module would mean two classes of one
// name, and an error of the one would be no instance of the other.
const oneCopy: Plugin = {
  name: 'one-copy',
  setup(build) {
    const shared = readFileSync(join(sources, built['shared'] ?? ''), 'utf8')
    build.onResolve({ filter: /^\.\.?\// }, ({ kind, path, importer, resolveDir }) => {
      const source = kind === 'entry-point' ? undefined : sourceOf(join(resolveDir, path))
      if (source === undefined) return undefined
      const [from, to] = [builtFrom(relative(sources, importer)), builtFrom(source)]
      if (from === to) return undefined
      if (from === 'shared') return refusal(`shared modules import no entry point: ${source}`)
      if (to === 'shared' && !shared.includes(`'./${basename(source, '.ts')}'`)) {
        return refusal(`ts/shared.ts does not export ${source}`)
      }
      if (to !== 'shared' && source !== built[to]) {
        return refusal(`import ts/${built[to]} instead of ts/${source}`)
      }
      return { path: `./${to}.cjs`, external: true }
    })
  },
}

/** The module of ts/ that an import names; undefined for any other file, such as package.json. */
function sourceOf(path: string): string | undefined {
  const found = [`${path}.ts`, join(path, 'index.ts')].find((file) => existsSync(file))
  return found === undefined ? undefined : relative(sources, found)
}

/** The built file that a module becomes part of. */
function builtFrom(source: string): string {
  const own = Object.keys(built).find((name) => built[name] === source)
  if (own !== undefined) return own
  const [directory, ...deeper] = dirname(source).split('/')
  if (directory === 'adapters') return deeper[0] ?? ''
  return directory === '.' ? 'shared' : (directory ?? '')
}

function refusal(text: string) {
  return { errors: [{ text }] }
}

function inTs(files: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(files).map(([name, file]) => [name, `ts/${file}`]))
}

const { clones, 'clones-protect': protect, ...typedTogether } = entryPoints

// The declarations need nothing but the language's own libraries. That of `Symbol.dispose` is in no release yet
// that `lib` would name by itself.
const DECLARED_LIBRARIES = '/// <reference lib="esnext.disposable" />'

// tsup's bundler of declarations sets `baseUrl`, which TypeScript 6 refuses unless it is told so.
const DECLARATIONS = {
  banner: DECLARED_LIBRARIES,
  compilerOptions: { ignoreDeprecations: '6.0' },
}

const options: Options = {
  entry: inTs(built),
  dts: { ...DECLARATIONS, entry: inTs(typedTogether) },
  format: ['cjs'],
  target: 'node20',
  platform: 'node',
  outDir: 'dist',
  splitting: false,
  // tools/setup.mjs empties dist/ first.
  clean: false,
  esbuildPlugins: [oneCopy],
  // npm installs the one that fits the machine, and it is required at run time.
  external: [/^vmclock-linux-/],
  // The package has no run-time dependency: the command line's are bundled into it.
  noExternal: ['commander', 'picocolors'],
}

// The bundler of declarations makes a file of its own for what entry points share and do not all export. So those
// that name no class of `vmclock` get copies of what they share: those are interfaces.
const typedApart: Options[] = [{ clones }, { 'clones-protect': protect }].map((entry) => ({
  ...options,
  entry: inTs(entry),
  dts: { ...DECLARATIONS, entry: inTs(entry), only: true },
}))

const builds: Options[] = [options, ...typedApart]

export default builds
