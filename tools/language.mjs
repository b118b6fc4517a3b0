// Checks two rules of docs/style.md: a comment's sentence says who does what, so it does not start with a
// fronted clause; and a sentence of the docs has at most 40 words.
//
// `node tools/language.mjs` checks the whole repository. `node tools/language.mjs FILE…` lists every such
// sentence in those files.

import { readFileSync } from 'node:fs'
import markdownIt from 'markdown-it'
import { asProgram, CommandFailed, capture } from './command.mjs'

const FRONTED = /^["'(]?(Of|What|Whoever|Whatever|Whether|Where|Whose) /
/** Fronted sentences per comment sentence, at most. */
const FRONTED_LIMIT = 0.02
/** Words in a sentence of the docs, at most. */
const WORD_LIMIT = 40

const sentences = new Intl.Segmenter('en', { granularity: 'sentence' })

/** Checks the language of all tracked files; fails if a limit is exceeded. */
export async function checkLanguage() {
  const code = await tracked('crate/*.rs', 'ts/*.ts')
  const found = code.map((file) => [file, commentSentences(file)])
  const all = found.flatMap(([, comments]) => comments)
  const fronted = all.filter(isFronted)
  const share = fronted.length / all.length
  console.log(
    `comments in crate/ and ts/: ${all.length} sentences, ${fronted.length} fronted (${(100 * share).toFixed(1)} %)`,
  )

  const docs = await tracked('*.md')
  const long = docs.flatMap((file) => docSentences(file).filter(isLong).map(shown(file)))
  console.log(`docs: ${long.length} sentences of more than ${WORD_LIMIT} words`)

  if (share > FRONTED_LIMIT)
    list(found.flatMap(([file, comments]) => comments.filter(isFronted).map(shown(file))))
  list(long)
  if (share > FRONTED_LIMIT || long.length > 0) {
    throw new CommandFailed('node', ['tools/language.mjs'], 'sentences to rewrite, listed above')
  }
}

/** Lists the sentences to rewrite in some files. */
function listOffenders(files) {
  for (const file of files) {
    const offending = file.endsWith('.md')
      ? docSentences(file).filter(isLong)
      : commentSentences(file).filter(isFronted)
    list(offending.map(shown(file)))
  }
}

/** The sentences of the comments of a Rust, TypeScript or JavaScript file. */
function commentSentences(file) {
  const blocks = []
  let block
  let inFence = false
  readFileSync(file, 'utf8')
    .split('\n')
    .forEach((line, index) => {
      const comment = /^\s*(?:\/\/[/!]?|\/\*\*?|\*(?!\/))(?: |$)(.*)$/.exec(line)
      const text = comment?.[1].replace(/\*\/$/, '').trim()
      if (text?.startsWith('```')) inFence = !inFence
      // An empty line, a list item, a tag and the end of the comment each end a paragraph.
      if (text === undefined || text === '' || text.startsWith('```') || inFence) {
        block = undefined
        if (text === undefined) inFence = false
        return
      }
      const item = /^(?:[-*] |\d+\. |@\w+ |# )+(.*)$/.exec(text)
      if (block === undefined || item !== null) {
        block = { line: index + 1, text: '' }
        blocks.push(block)
      }
      block.text += `${item?.[1] ?? text} `
    })
  return blocks.flatMap(({ line, text }) => split(text, line))
}

/** The sentences of a Markdown file, without its code. */
function docSentences(file) {
  return markdownIt()
    .parse(readFileSync(file, 'utf8'), {})
    .filter(({ type }) => type === 'inline')
    .flatMap(({ children, map }) => split(children.map(plain).join(''), (map?.[0] ?? 0) + 1))
}

/** The text of one Markdown token. Code counts as one word, with a capital: it may start a sentence. */
function plain({ type, content }) {
  if (type === 'softbreak' || type === 'hardbreak') return ' '
  return type === 'code_inline' ? 'Code' : content
}

function split(text, line) {
  return [...sentences.segment(text)]
    .map(({ segment }) => ({ line, text: segment.trim() }))
    .filter((sentence) => /\w/.test(sentence.text))
}

function isFronted({ text }) {
  return FRONTED.test(text) && !text.endsWith('?')
}

function isLong({ text }) {
  return text.split(/\s+/).filter((word) => /\w/.test(word)).length > WORD_LIMIT
}

function shown(file) {
  return ({ line, text }) => `${file}:${line}: ${text}`
}

function list(lines) {
  for (const line of lines) console.log(line)
}

async function tracked(...patterns) {
  return (await capture('git', ['ls-files', '--', ...patterns])).split('\n').filter(Boolean)
}

await asProgram(import.meta.url, (files) =>
  files.length === 0 ? checkLanguage() : listOffenders(files),
)
