// A TypeDoc plugin. It names each page of the guide by the page's own heading, and removes the heading of
// the README, because the site shows it already.

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
  if (found === null) throw new Error(`${name}: does not start with a heading`)
  return found
}
