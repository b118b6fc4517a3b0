// For TypeDoc: a page of the guide is named by its own heading, as its readers elsewhere see it, and the
// README's heading, which the site shows as its own, does not stand there twice.

import { Converter } from 'typedoc'

/** @param {import('typedoc').Application} app */
export function load(app) {
  app.converter.on(Converter.EVENT_CREATE_DOCUMENT, (_context, document) => {
    document.name = heading(document.content, document.name)[1]
  })
  app.converter.on(Converter.EVENT_RESOLVE_END, ({ project }) => {
    const [whole] = heading(project.readme, 'README.md')
    project.readme[0].text = project.readme[0].text.slice(whole.length)
  })
}

function heading([first], name) {
  const found = /^# (.+)\n+/.exec(first?.text ?? '')
  if (found === null) throw new Error(`${name}: no heading to begin with`)
  return found
}
