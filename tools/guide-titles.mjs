// For TypeDoc: a page of the guide is named by its own heading, as its readers elsewhere see it.

import { Converter } from 'typedoc'

/** @param {import('typedoc').Application} app */
export function load(app) {
  app.converter.on(Converter.EVENT_CREATE_DOCUMENT, (_context, document) => {
    const [first] = document.content
    const heading = /^# (.+)\n+/.exec(first?.text ?? '')
    if (heading === null) throw new Error(`${document.name}: no heading to begin with`)
    document.name = heading[1]
    first.text = first.text.slice(heading[0].length)
  })
}
