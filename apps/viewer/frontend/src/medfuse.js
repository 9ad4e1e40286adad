/** What Streamlit mounts: one instance an element, updated when Python has something new. */

import { Findings } from './findings.js'
import { Opener } from './opener.js'
import { Post } from './outbox.js'
import { Reader } from './reader.js'
import { ReportEditor } from './report.js'

const PARTS = { reader: Reader, findings: Findings, report: ReportEditor, opener: Opener }
const mounted = new WeakMap()
/** @type {Map<string, Post>} */
const posts = new Map() // by key: what was not heard outlives a part that is mounted anew

/** component: as Streamlit's components v2 hand it over. Returns what to do when it goes. */
export function mount({ parentElement, data, setTriggerValue }) {
  let part = mounted.get(parentElement)
  if (part && part.key !== data.key) leave(parentElement)
  const post = posts.get(data.key) ?? new Post()
  posts.set(data.key, post)
  post.heard(data.heard ?? {})
  if (part?.key === data.key) return part.instance.update(data)
  post.open((event, value) => setTriggerValue(event, value))
  part = { key: data.key, instance: new PARTS[data.part](parentElement, data, (event, value) => post.tell(event, value)) }
  mounted.set(parentElement, part)
}

function leave(parentElement) {
  const part = mounted.get(parentElement)
  part?.instance.close()
  mounted.delete(parentElement)
  const post = posts.get(part?.key)
  post?.close()
  if (post && !post.waiting.size) posts.delete(part.key)
}

export const unmount = leave
