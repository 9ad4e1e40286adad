/** Small pictures of every series: a double click, Enter or a drag brings one into a viewport. */

import { h } from './dom.js'
import { dated } from './corners.js'

export const SERIES = 'text/x-medfuse-series' // what is dragged

export class Strip {
  /** @param {import('./reader.js').Reader} reader */
  constructor(reader) {
    this.reader = reader
    /** @type {Map<number, HTMLCanvasElement>} */
    this.pictures = new Map() // each crosses the wire once
    this.element = h('div', { class: 'strip', role: 'group' })
    this.draw()
  }

  draw() {
    const { words, images } = this.reader
    this.element.setAttribute('aria-label', words.strip)
    this.element.replaceChildren(...images.map((image) => this.#one(image)))
    this.mark()
  }

  /** Which series stand in a viewport. */
  mark() {
    const shown = new Set(this.reader.panes.map((p) => p.meta?.index))
    this.element.querySelectorAll('button').forEach((b) => b.classList.toggle('on', shown.has(Number(b.dataset.series))))
  }

  #picture(image) {
    const known = this.pictures.get(image.index)
    if (known) return known
    const canvas = h('canvas', { 'aria-hidden': 'true', width: image.thumb[0] || 1, height: image.thumb[1] || 1 })
    this.pictures.set(image.index, canvas)
    picture(canvas, image)
    return canvas
  }

  #one(image) {
    const { words } = this.reader
    const canvas = this.#picture(image)
    const label = `${image.prior ? `${words.prior} ${dated(image.prior)} · ` : ''}${image.modality} ${image.title} · ${image.shape[2]}`
    const take = () => this.reader.put(image.index)
    return h('button', { class: image.prior ? 'prior' : '', draggable: true, 'data-series': String(image.index), title: label, 'aria-label': label,
      ondblclick: take, onkeydown: (e) => { if (e.key === 'Enter') { e.preventDefault(); take() } },
      ondragstart: (e) => e.dataTransfer.setData(SERIES, String(image.index)) },
    canvas, h('span', {}, `${image.modality} ${image.title}`), h('small', {}, image.prior ? dated(image.prior) : String(image.shape[2])))
  }
}

/** The small grey picture, once it is here; without it the place stays black. */
async function picture(canvas, image) {
  const [width, height] = image.thumb
  if (!width || !image.url) return
  const response = await fetch(`${image.url}.thumb.gz`, { cache: 'no-store' }).catch(() => null)
  if (!response?.ok) return
  const grey = new Uint8Array(await response.arrayBuffer())
  const shown = new ImageData(width, height)
  for (let i = 0; i < width * height; i++) shown.data.set([grey[i], grey[i], grey[i], 255], 4 * i)
  canvas.getContext('2d').putImageData(shown, 0, 0)
}
