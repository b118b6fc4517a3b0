// What README, guide and examples show works as it stands there: every block of TypeScript is checked
// and run beside a published page, every command is carried out, JSON is parsed.

import { spawn } from 'node:child_process'
import { chmodSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import ts from 'typescript'
import { VmClockPublisher } from 'vmclock'
import { commandLine, nodeWords, type Outcome, rootFolder, run } from './node-command'
import { folder } from './pages'

interface Block {
  /** Where it stands, as an editor would be told. */
  readonly place: string
  readonly language: string
  readonly text: string
}

const documents = [
  'README.md',
  ...readdirSync(join(rootFolder, 'docs')).map((file) => `docs/${file}`),
]
  .filter((file) => file.endsWith('.md'))
  .sort()

const blocks: readonly Block[] = documents.flatMap((file) => blocksOf(file))

function blocksOf(file: string): Block[] {
  const text = readFileSync(join(rootFolder, file), 'utf8')
  return [...text.matchAll(/^```(\S*)\n(.*?)^```$/gms)].map(({ 1: language, 2: body, index }) => ({
    place: `${file}:${text.slice(0, index).split('\n').length}`,
    language: language ?? '',
    text: body ?? '',
  }))
}

function inLanguage(language: string): readonly Block[] {
  return blocks.filter((block) => block.language === language)
}

/** A page with time that others publish, as the documents take for granted. */
function published(t: ExecutionContext): string {
  const publisher = VmClockPublisher.create(join(folder(t), 'page'), {
    acceptCounter: true,
    statedMaxErrorNs: 1_000_000n,
    taiMinusUtcSec: 37,
  })
  t.teardown(() => publisher.close())
  return publisher.path
}

const examples = readdirSync(join(rootFolder, 'examples'))
  .filter((file) => file.endsWith('.ts'))
  .map((file) => ({
    place: `examples/${file}`,
    text: readFileSync(join(rootFolder, 'examples', file), 'utf8'),
  }))

test('every block is in a language that is looked after here', (t) => {
  const known = ['ts', 'sh', 'console', 'json', 'text', 'ini', 'yaml', 'toml', 'rust,no_run']
  t.deepEqual(
    blocks.filter(({ language }) => !known.includes(language)),
    [],
  )
})

test('TypeScript in documents and examples passes the strict compiler', (t) => {
  const sources = new Map(
    [...inLanguage('ts'), ...examples].map(({ place, text }) => [
      `${rootFolder}${place.replaceAll(/[/:]/g, '-')}.ts`,
      text,
    ]),
  )
  const { config } = ts.readConfigFile(join(rootFolder, 'tsconfig.json'), ts.sys.readFile)
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, rootFolder)
  // What a document declares for its reader need not be used in it, nor annotated for exports.
  const lenient = { noUnusedLocals: false, isolatedDeclarations: false, declaration: false }
  const host = ts.createCompilerHost(options)
  const { fileExists, readFile } = host
  host.fileExists = (file) => sources.has(file) || fileExists(file)
  host.readFile = (file) => sources.get(file) ?? readFile(file)
  const program = ts.createProgram([...sources.keys()], { ...options, ...lenient }, host)
  t.true(sources.size > 0)
  t.deepEqual(
    ts
      .getPreEmitDiagnostics(program)
      .map(
        ({ file, messageText }) =>
          `${file?.fileName}: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`,
      ),
    [],
  )
})

for (const { place, text } of [...inLanguage('ts'), ...examples]) {
  test(`${place} runs`, async (t) => {
    const compilerOptions = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 }
    const { outputText } = ts.transpileModule(text, { compilerOptions })
    const { exitCode, signal, stderr } = await run(['--input-type=module', '-e', outputText], {
      env: { VMCLOCK_PATH: published(t) },
    })
    t.is(stderr, '')
    t.is(exitCode, 0, signal ?? '')
  })
}

for (const { place, text } of inLanguage('sh')) {
  test(`${place}: every command works`, async (t) => {
    const programs = folder(t)
    const node = nodeWords().map(quoted).join(' ')
    // `npx vmclock` of this tree; of npm only that a script of that name is there.
    program(
      programs,
      'npx',
      // What is asked may be answered with "wrong here", but has to be understood.
      `[ "$1" = vmclock ] && shift && ${node} ${quoted(commandLine)} "$@" || [ $? = 1 ]`,
    )
    const scripts = Object.keys(packageJson().scripts)
    program(
      programs,
      'npm',
      `case "$*" in ${[
        'install vmclock',
        'test',
        'test --*',
        ...scripts.map((name) => `run ${name}*`),
      ]
        .map((words) => words.replaceAll(' ', '\\ '))
        .join('|')}) ;; *) echo "no script for npm $*" >&2; exit 1 ;; esac`,
    )
    const { exitCode, stderr } = await shell(t, programs, text)
    t.is(exitCode, 0, stderr)
  })
}

for (const { place, text } of inLanguage('console')) {
  // They want root, a container engine or another machine.
  test(`${place}: at least a shell understands it`, async (t) => {
    const { exitCode, stderr } = await shell(t, folder(t), `sh -n <<'EOF'\n${text}EOF\n`)
    t.is(exitCode, 0, stderr)
  })
}

for (const { place, text } of inLanguage('json')) {
  test(`${place} is JSON, a value a line or one of many lines`, (t) => {
    t.notThrows(() => {
      if (
        text
          .trimEnd()
          .split('\n')
          .every((line) => line.startsWith('{') && line.endsWith('}'))
      ) {
        for (const line of text.trimEnd().split('\n')) JSON.parse(line)
      } else JSON.parse(text)
    })
  })
}

test('no document refers to a file that is not there', (t) => {
  const missing = documents.flatMap((file) =>
    [...readFileSync(join(rootFolder, file), 'utf8').matchAll(/\]\((?!https?:|#)([^)#]+)/g)]
      .map(([, target]) => resolve(rootFolder, file, '..', target ?? ''))
      .filter((target) => !ts.sys.fileExists(target) && !ts.sys.directoryExists(target))
      .map((target) => `${file}: ${target}`),
  )
  t.deepEqual(missing, [])
})

test('every fault that is listed has a test of that title in that file', (t) => {
  const rows = readFileSync(join(rootFolder, 'docs/faults.md'), 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('|') && !/^\|(---|\s*fault )/.test(line))
  t.true(rows.length > 0)
  const unproven = rows.filter((row) => {
    const [, file = '', title = ''] = /\| `([^`]+)`: (.+) \|$/.exec(row) ?? []
    return !ts.sys.fileExists(join(rootFolder, file)) || !testsOf(file).some((of) => of.test(title))
  })
  t.deepEqual(unproven, [])
})

/** What fits the titles of a file's tests; `${…}` in a title fits anything. */
function testsOf(file: string): RegExp[] {
  const text = readFileSync(join(rootFolder, file), 'utf8')
  const begun = file.endsWith('.rs')
    ? /#\[test\]\s+(?:#\[.*\]\s+)*fn (\w+)\(/g
    : file.startsWith('rig/')
      ? /^ {2}(?:async )?'(.+?)'\(/gm
      : /^ *test(?:\.serial)?\(\s*(?:'(.+?)'|`(.+?)`),/gm
  return [...text.matchAll(begun)].map(([, plain, pattern = plain]) => {
    const parts = (pattern ?? '').split(/\$\{(?:[^{}]|\{[^}]*\})*\}/)
    return new RegExp(
      `^${parts.map((part) => part.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('.+')}$`,
    )
  })
}

function packageJson(): { scripts: Record<string, string> } {
  return JSON.parse(readFileSync(join(rootFolder, 'package.json'), 'utf8'))
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`
}

function program(programs: string, name: string, line: string): void {
  const path = join(programs, name)
  writeFileSync(path, `#!/bin/sh\n${line}\n`)
  chmodSync(path, 0o755)
}

/** Runs lines of shell in a folder of their own, with a published page; all that it starts ends with it. */
function shell(t: ExecutionContext, programs: string, text: string): Promise<Outcome> {
  const child = spawn('sh', ['-euc', text], {
    cwd: folder(t),
    env: {
      ...process.env,
      NO_COLOR: '1',
      VMCLOCK_PATH: published(t),
      PATH: `${programs}:${process.env['PATH']}`,
    },
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const said = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (chunk: string) => {
      said[name] += chunk
    })
  }
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (exitCode, signal) => {
      // What was put in the background.
      try {
        process.kill(-(child.pid ?? 0), 'SIGTERM')
      } catch {}
      child.once('close', () => resolve({ exitCode, signal, ...said }))
    })
  })
}
