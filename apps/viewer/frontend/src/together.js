/** Two windows on one case: the images in the first, the report in the second, such as on a second monitor. */

import { bus, hear } from './dom.js'

const BEAT_MS = 2000
const GONE_MS = 3 * BEAT_MS + 1000 // a window that is hidden is given its turn once a second
const asked = new URLSearchParams(location.search)
/** True in a window that shows the report alone. */
export const second = asked.get('part') === 'report'
const desk = second ? asked.get('desk') ?? '' : own()
const channel = new BroadcastChannel('medfuse')
/** @type {ReturnType<typeof setTimeout> | undefined} */
let waiting

/** This window's name; it lasts over a loading anew. */
function own() {
  const name = sessionStorage.getItem('medfuse-desk') ?? Math.random().toString(36).slice(2)
  sessionStorage.setItem('medfuse-desk', name)
  return name
}

/** True where the report of this window stands in a second one. */
export function away() {
  return document.documentElement.hasAttribute('data-away')
}

/** Tell the other window; `to` is images or report. */
export function send(to, name, detail = null) {
  channel.postMessage({ desk, to, name, detail })
}

/** Say something on this page, or in the window that it is for. */
export function say(name, detail = null) {
  if (second && name !== 'states') send('images', name, detail)
  else if (name === 'insert' && away()) send('report', name, detail)
  else bus.dispatchEvent(new CustomEvent(name, { detail }))
}

/** Open the report of this case in a window of its own. */
export function apart(caseId) {
  const url = new URL(location.href)
  url.searchParams.set('case', caseId)
  url.searchParams.set('part', 'report')
  url.searchParams.set('desk', desk)
  window.open(url, `medfuse-report-${desk}`, 'popup,width=900,height=1000')
}

function seen(alive) {
  clearTimeout(waiting)
  const was = away()
  document.documentElement.toggleAttribute('data-away', alive)
  if (alive) waiting = setTimeout(() => seen(false), GONE_MS)
  if (was !== alive) bus.dispatchEvent(new CustomEvent('apart', { detail: alive }))
}

channel.onmessage = ({ data }) => {
  if (data.desk !== desk || data.to !== (second ? 'report' : 'images')) return
  if (data.name === 'here') return seen(true), bus.dispatchEvent(new CustomEvent('asked', { detail: data.detail }))
  if (data.name === 'gone') return seen(false)
  if (data.name === 'case') return follow(data.detail)
  bus.dispatchEvent(new CustomEvent(data.name, { detail: data.detail }))
}

/** The second window shows the case that the first one shows. */
function follow(caseId) {
  const url = new URL(location.href)
  if (url.searchParams.get('case') === caseId) return
  url.searchParams.set('case', caseId)
  location.replace(url)
}

if (second) {
  const beat = () => send('images', 'here', asked.get('case'))
  beat()
  setInterval(beat, BEAT_MS)
  hear(window, 'pagehide', () => send('images', 'gone'))
}
