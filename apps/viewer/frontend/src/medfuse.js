/** What Streamlit mounts: one instance an element, updated when Python has something new. */

import { Findings } from './findings.js'
import { Opener } from './opener.js'
import { Post } from './outbox.js'
import { Reader } from './reader.js'
import { Referred } from './referred.js'
import { ReportEditor } from './report.js'

const PARTS = { reader: Reader, findings: Findings, report: ReportEditor, opener: Opener, referred: Referred }
const GONE_MS = 3000 // a part that was taken away and does not come back within this is closed
const mounted = new WeakMap() // by where it stands
/** @type {Map<string, { key: string, parent: HTMLElement, instance: any, going?: ReturnType<typeof setTimeout> }>} */
const parts = new Map() // by key: Streamlit mounts an element anew where something above it came or went; the part moves there as it is
/** @type {Map<string, Post>} */
const posts = new Map() // by key: what was not heard outlives a part

/** component: as Streamlit's components v2 hand it over. */
export function mount({ parentElement, data, setTriggerValue }) {
  const here = mounted.get(parentElement)
  if (here && here.key !== data.key) leave(parentElement)
  const post = posts.get(data.key) ?? new Post()
  posts.set(data.key, post)
  post.heard(data.heard ?? {})
  const tell = (event, value) => setTriggerValue(event, value)
  const part = parts.get(data.key)
  if (!part) {
    post.open(tell)
    const instance = new PARTS[data.part](parentElement, data, (event, value) => post.tell(event, value))
    parts.set(data.key, { key: data.key, parent: parentElement, instance })
    mounted.set(parentElement, parts.get(data.key))
    return
  }
  if (part.parent !== parentElement || part.going) {
    clearTimeout(part.going)
    part.going = undefined
    mounted.delete(part.parent)
    mounted.set(parentElement, part)
    part.parent = parentElement
    post.open(tell)
    part.instance.update(data)
    part.instance.stand(parentElement)
  } else part.instance.update(data)
}

function leave(parentElement) {
  const part = mounted.get(parentElement)
  if (!part) return // it stands elsewhere by now
  mounted.delete(parentElement)
  part.instance.root?.remove()
  part.going = setTimeout(() => close(part), GONE_MS)
}

function close(part) {
  part.instance.close()
  parts.delete(part.key)
  const post = posts.get(part.key)
  post?.close()
  if (post && !post.waiting.size) posts.delete(part.key)
}

export const unmount = leave
