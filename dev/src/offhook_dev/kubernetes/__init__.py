"""What is deployed on Kubernetes (`deploy/k8s`): the part of it that follows from the code, and what is demanded of all of it."""
