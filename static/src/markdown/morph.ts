/** Changes an element to look like another one, in place: selections, focus and scroll stay. */

/** `wanted` is used up. What both have at the same place is kept; lists with keys are not known here. */
export function morph(element: Element, wanted: Element): void {
  for (const name of element.getAttributeNames()) {
    if (!wanted.hasAttribute(name)) element.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (element.getAttribute(name) !== value) element.setAttribute(name, value);
  }
  let here = element.firstChild;
  let node = wanted.firstChild;
  while (node) {
    const after: ChildNode | null = here?.nextSibling ?? null;
    // What is moved over here leaves its siblings.
    const next: ChildNode | null = node.nextSibling;
    if (!here) element.append(node);
    else if (here.nodeName !== node.nodeName) here.replaceWith(node);
    else if (here instanceof Element) morph(here, node as Element);
    else if (here.nodeValue !== node.nodeValue) here.nodeValue = node.nodeValue;
    here = after;
    node = next;
  }
  while (here) {
    const after: ChildNode | null = here.nextSibling;
    here.remove();
    here = after;
  }
}
