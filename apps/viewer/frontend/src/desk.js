/** How the window is shared: images to the left, the report to the right, and a line between them that can be moved. */

import { h, hear } from './dom.js'
import { away } from './together.js'

const KEY = 'medfuse-images-share' // of the window, in this browser
const REPORT = 300 // pixels that the report keeps
const STEP = 0.02

/** The line between images and report; `close` ends it. */
export class Divider {
  constructor(label) {
    this.element = h('div', { class: 'divider', role: 'separator', tabindex: 0, 'aria-orientation': 'vertical', 'aria-label': label, title: label,
      onpointerdown: (e) => this.element.setPointerCapture(e.pointerId),
      onpointermove: (e) => this.element.hasPointerCapture(e.pointerId) && this.#to(e.clientX - this.#left()),
      ondblclick: () => { localStorage.removeItem(KEY); this.fit() },
      onkeydown: (e) => this.#key(e) })
    this.off = [hear(window, 'resize', () => this.fit())]
    this.observer = new ResizeObserver(() => this.fit())
    this.watch()
  }

  /** Follow the row that the page has now. */
  watch() {
    this.observer.disconnect()
    requestAnimationFrame(() => {
      const row = this.#row()
      // a line above that comes or goes moves the row and leaves its size as it was
      for (const x of [row?.parentElement, row?.closest('[data-testid=stMainBlockContainer]')]) if (x) this.observer.observe(x)
      this.fit()
    })
  }

  #row() {
    return /** @type {HTMLElement | null} */ (document.querySelector('.st-key-desk > * > [data-testid=stHorizontalBlock]'))
  }

  #left() {
    return this.#row()?.getBoundingClientRect().left ?? 0
  }

  /** Three fifths of a wide window, half of a narrow one, or what somebody chose. */
  #share() {
    const chosen = Number(localStorage.getItem(KEY))
    return chosen > 0.1 && chosen < 0.95 ? chosen : window.innerWidth >= 1600 ? 0.64 : 0.55
  }

  #to(pixels) {
    localStorage.setItem(KEY, String(pixels / window.innerWidth))
    this.fit()
  }

  #key(event) {
    const by = { ArrowLeft: -STEP, ArrowRight: STEP }[event.key]
    if (!by) return
    event.preventDefault()
    event.stopPropagation()
    this.#to((this.#share() + by) * window.innerWidth)
  }

  fit() {
    const row = this.#row()
    if (!row) return
    const box = row.getBoundingClientRect()
    const scrolled = row.closest('[data-testid=stMain]')?.scrollTop ?? 0
    const width = away() ? box.width : Math.max(260, Math.min(box.width - REPORT, this.#share() * window.innerWidth))
    const style = document.documentElement.style
    style.setProperty('--images-width', `${Math.round(width)}px`)
    style.setProperty('--desk-top', `${Math.round(box.top + scrolled + 6)}px`)
    this.element.setAttribute('aria-valuenow', String(Math.round(100 * width / window.innerWidth)))
  }

  close() {
    this.observer.disconnect()
    this.off.forEach((f) => f())
  }
}
