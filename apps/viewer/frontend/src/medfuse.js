/** What Streamlit mounts: one instance an element, updated when Python has something new. */

import { Findings } from './findings.js'
import { Opener } from './opener.js'
import { Reader } from './reader.js'
import { ReportEditor } from './report.js'

const PARTS = { reader: Reader, findings: Findings, report: ReportEditor, opener: Opener }
const mounted = new WeakMap()

/** component: as Streamlit's components v2 hand it over. Returns what to do when it goes. */
export function mount({ parentElement, data, setTriggerValue }) {
  let part = mounted.get(parentElement)
  if (part && part.key === data.key) part.instance.update(data)
  else {
    part?.instance.close()
    part = { key: data.key, instance: new PARTS[data.part](parentElement, data, (event, value) => setTriggerValue(event, value)) }
    mounted.set(parentElement, part)
  }
}

export function unmount(parentElement) {
  mounted.get(parentElement)?.instance.close()
  mounted.delete(parentElement)
}
