/** Changes an element to look like another one, in place: selections, focus and scroll stay. */

/** `wanted` is used up. What both have at the same place is kept; lists with keys are not known here. */
export function morph(element: Element, wanted: Element): void {
  for (const { name } of [...element.attributes]) {
    if (!wanted.hasAttribute(name)) element.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (element.getAttribute(name) !== value) element.setAttribute(name, value);
  }
  let here = element.firstChild;
  for (const node of [...wanted.childNodes]) {
    const next = here?.nextSibling ?? null;
    if (!here) element.append(node);
    else if (here.nodeName !== node.nodeName) here.replaceWith(node);
    else if (here instanceof Element) morph(here, node as Element);
    else if (here.nodeValue !== node.nodeValue) here.nodeValue = node.nodeValue;
    here = next;
  }
  while (here) {
    const next: ChildNode | null = here.nextSibling;
    here.remove();
    here = next;
  }
}
